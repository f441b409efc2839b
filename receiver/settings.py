"""Settings: resultsink.toml and RESULTSINK_* variables; the environment wins.

Nested names are joined by two underscores (RESULTSINK_SOURCES__VALYU__API_KEY). A variable that
ends in _FILE names a file that holds the value, for mounted secrets.
"""

import json
import math
import os
import re
from collections.abc import Iterator
from difflib import get_close_matches
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
)
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from receiver.errors import UsageError

PREFIX = "RESULTSINK_"
MEBIBYTE = 1024 * 1024
MAX_DAYS = 36_500


class SourceSettings(BaseModel):
    """One sender account. What is None takes the provider's default."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    provider: str | None = Field(
        default=None, description="the adapter; by default the source's name"
    )
    api_key: SecretStr | None = Field(default=None, description="the key for the sender's API")
    base_url: str | None = Field(default=None, description="where the sender's API is")
    signing_secrets: Annotated[list[SecretStr], NoDecode] = Field(
        default=[], description="account-level signing secrets, newest first"
    )
    signing_secrets_file: Path | None = Field(
        default=None, description="the same, one a line; read again whenever it changes"
    )
    tolerance: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="seconds a timestamp may be off"
    )
    lookup_by_body: bool = Field(
        default=False, description="find the secret by an id in the still unverified body"
    )
    max_body_bytes: int = Field(default=16 * MEBIBYTE, ge=1024, description="larger bodies get 413")
    concurrency: int = Field(default=8, ge=1, le=256, description="jobs worked on at once")
    requests_per_second: float = Field(default=10.0, gt=0, description="calls to the sender's API")
    signing: dict[str, Any] = Field(
        default={}, description="another scheme, header names, template, readings"
    )

    api: dict[str, Any] = Field(
        default={}, description="what its API leaves open: see docs/senders.md"
    )

    @field_validator("signing_secrets", mode="before")
    @classmethod
    def _apart(cls, secrets: Any) -> Any:
        """In a variable: a JSON list, or secrets with spaces or commas between them."""
        return _several(secrets)

    @field_validator("api_key", mode="before")
    @classmethod
    def _pasted(cls, key: Any) -> Any:
        """A key goes into a header: what pasting leaves around it would spoil every call."""
        if not isinstance(key, str):
            return key
        key = key.strip()
        if not re.fullmatch(r"[!-~]*", key):
            raise ValueError("has characters that are no part of a key: copy it again")
        return key

    @field_validator("base_url")
    @classmethod
    def _safe_for_keys(cls, url: str | None) -> str | None:
        if url is not None:
            _refuse_plain_http(url, "the API key would travel in the clear")
        return url


def days(given: Any) -> float | None:
    """A number of days, or None for ever; raises ValueError, which says what to write."""
    if given is None or given == "never":
        return None
    try:
        number = math.nan if isinstance(given, bool) else float(given)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 < number <= MAX_DAYS:
        raise ValueError(f"is no number of days above 0, up to {MAX_DAYS}, and not the word never")
    return number


Days = Annotated[float | None, BeforeValidator(days)]


class RetentionSettings(BaseModel):
    """How long what is kept, in days; None: for ever."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    deliveries: Days = Field(
        default=30, description="bodies and headers of deliveries whose work is done"
    )
    attempts: Days = Field(default=30, description="attempts of ended jobs")
    events: Days = Field(
        default=90, description="events, counted from their last delivery, and ended jobs"
    )
    results: Days = Field(
        default=None, description="the content of results whose batch is not open"
    )
    versions: Days = Field(
        default=None, description="versions of results, counted from when they were superseded"
    )


class Settings(BaseSettings):
    """Everything that can be set."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        hide_input_in_errors=True,
    )

    database_url: str = Field(
        default="sqlite:///resultsink.db", description="where everything is kept"
    )
    public_url: str | None = Field(default=None, description="our address as senders see it")
    encryption_keys: Annotated[list[SecretStr], NoDecode] = Field(
        default=[], description="keys for secrets at rest, newest first; by default a key file"
    )
    max_in_flight_bytes: int = Field(
        default=64 * MEBIBYTE,
        ge=MEBIBYTE,
        description="bodies being received together; beyond it 503",
    )
    max_connections: int = Field(default=1_000, ge=1, description="open connections; beyond it 503")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="the least serious lines that are logged"
    )
    log_format: Literal["auto", "json", "text"] = Field(
        default="auto", description="auto: text on a terminal, JSON lines otherwise"
    )
    retention: RetentionSettings = Field(
        default_factory=RetentionSettings,
        description="how long data is kept, in days: see docs/retention.md",
    )
    sources: dict[str, SourceSettings] = Field(
        default={}, description="the sender accounts, by name"
    )

    @field_validator("encryption_keys", mode="before")
    @classmethod
    def _apart(cls, keys: Any) -> Any:
        """In a variable or a file: keys with spaces, commas or line ends between them."""
        return _several(keys)

    @field_validator("public_url")
    @classmethod
    def _reachable(cls, url: str | None) -> str | None:
        if url is None:
            return None
        _refuse_plain_http(url, "senders refuse anything else")
        return url.rstrip("/")

    @field_validator("sources")
    @classmethod
    def _named(cls, sources: dict[str, SourceSettings]) -> dict[str, SourceSettings]:
        for name in sources:
            if not name.replace("-", "").replace("_", "").isalnum() or not name.isascii():
                raise ValueError(f"the source name {name!r} must be letters, digits, - and _")
        return sources

    @property
    def is_on_sqlite(self) -> bool:
        """Whether one process at a time serves the database."""
        return self.database_url.startswith("sqlite")

    def secrets(self) -> Iterator[str]:
        """Every secret text there is, for whoever must not let one out."""
        for source in self.sources.values():
            for secret in (source.api_key, *source.signing_secrets):
                if secret is not None:
                    yield secret.get_secret_value()
        yield from (key.get_secret_value() for key in self.encryption_keys)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment (with its files), then the TOML file."""
        del dotenv_settings, file_secret_settings
        _refuse_unknown(set(settings_cls.model_fields))
        assert isinstance(env_settings, EnvSettingsSource)  # noqa: S101  what pydantic promises
        in_files = _values_in_files()
        stands_for = {f"{name}_file" for name in in_files}
        given = {n: v for n, v in env_settings.env_vars.items() if n not in stands_for}
        env_settings.env_vars = {**given, **in_files}
        toml = TomlConfigSettingsSource(settings_cls, toml_file=_config_file())
        return init_settings, env_settings, toml


class GivenSettings(Settings):
    """Settings that are all given as arguments: neither environment nor file is looked at."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        *others: PydanticBaseSettingsSource,
        **named: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The arguments, and nothing else."""
        del settings_cls, others, named
        return (init_settings,)


def load() -> Settings:
    """Read the settings; raises UsageError, one sentence that names the setting."""
    try:
        return Settings()
    except ValidationError as error:
        raise UsageError(_sentence(error)) from None
    except SettingsError as error:
        raise UsageError(
            f"The settings cannot be read: {error}; lists and tables are written as JSON there."
        ) from None
    except (ValueError, OSError) as error:  # TOMLDecodeError is a ValueError
        raise UsageError(f"The settings cannot be read: {error}.") from None


def _sentence(error: ValidationError) -> str:
    first = error.errors(include_input=False)[0]
    name = ".".join(str(part) for part in first["loc"]) or "settings"
    reason = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        reason = "there is no such setting"
    return f"The setting {name} is wrong: {reason}."


def _config_file() -> Path:
    named = os.environ.get("RESULTSINK_CONFIG")
    if named is not None and not Path(named).is_file():
        raise UsageError(f"The settings file {named} does not exist.")
    return Path(named or "resultsink.toml")


# What Kubernetes and Docker set beside a service that is called resultsink: no setting of ours.
_LINKS = re.compile(r"resultsink_(service_(host|port)(_\w+)?|port(_\d+_(tcp|udp)(_\w+)?)?)")


def _variables() -> Iterator[str]:
    """The names of the variables that are meant for us; RESULTSINK_TEST_... are for tests."""
    for name, value in os.environ.items():
        is_link = _LINKS.fullmatch(name.lower()) and (
            name.upper() != f"{PREFIX}PORT" or "://" in value
        )
        if name.startswith(PREFIX) and not name.startswith(f"{PREFIX}TEST_") and not is_link:
            yield name


def _refuse_unknown(fields: set[str]) -> None:
    """A misspelt variable must not be a setting that silently stays as it was."""
    for name in _variables():
        setting = name.removeprefix(PREFIX).lower()
        if setting == "config" or setting.startswith(("sources__", "retention__")):
            continue
        if setting.removesuffix("_file") not in fields:
            close = get_close_matches(setting.partition("__")[0], [*fields, "config"], n=1)
            meant = PREFIX + close[0].upper() if close else "one of those in docs/settings.md"
            raise UsageError(f"There is no setting {name}: write {meant}, or take it away.")


def _several(given: Any) -> Any:
    """A text that holds several values apart; what is no text stays as it is."""
    if not isinstance(given, str):
        return given
    if given.lstrip().startswith(("[", "{", '"')):
        try:
            return json.loads(given)
        except ValueError:
            raise ValueError("is no JSON list, and no list of values with spaces between") from None
    return given.replace(",", " ").split()


# A file that is looked at again and again is a setting of its own, not the value of another.
_WATCHED = re.compile(rf"{PREFIX}SOURCES__.+__SIGNING_SECRETS_FILE", re.IGNORECASE)


def variable_of(setting: str) -> str | None:
    """The variable that a setting comes from; None where it is in resultsink.toml, or not set."""
    plain = PREFIX + setting.upper()
    return next((name for name in (f"{plain}_FILE", plain) if name in os.environ), None)


def _values_in_files() -> dict[str, str]:
    """The variables given as ..._FILE, by the name that they stand for."""
    values = {}
    for name in _variables():
        if name.endswith("_FILE") and not _WATCHED.fullmatch(name):
            try:
                value = Path(os.environ[name]).read_text().strip()
            except OSError as error:
                raise UsageError(f"The file that {name} names cannot be read: {error}.") from None
            if not value:
                raise UsageError(f"The file that {name} names is empty: {os.environ[name]}.")
            values[name.removesuffix("_FILE").lower()] = value
    return values


def _refuse_plain_http(url: str, why: str) -> None:
    parts = urlsplit(url)
    if not parts.hostname or parts.query or parts.fragment:
        raise ValueError("is not an address: write https://HOST")
    try:
        parts.port  # noqa: B018  it is looked at only now
    except ValueError:
        raise ValueError("has a port that is no number up to 65535") from None
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname)):
        raise ValueError(
            f"must begin with https://, {why} (http is for a sandbox on this machine only)"
        )


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
