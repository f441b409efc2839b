"""Settings: resultsink.toml and RESULTSINK_* variables; the environment wins.

Nested names are joined by two underscores (RESULTSINK_SOURCES__VALYU__API_KEY). A variable that
ends in _FILE names a file that holds the value, for mounted secrets.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from receiver.errors import UsageError
from receiver.settings.environment import (
    refuse_unknown,
    settings_in_file,
    values_in_files,
    variable_of,
)
from receiver.settings.retention import RetentionSettings, days
from receiver.settings.source import MEBIBYTE, SourceSettings
from receiver.settings.unknown import PREFIX, hint
from receiver.settings.values import is_loopback, plain_name, refuse_plain_http, split_values

__all__ = [
    "PREFIX", "GivenSettings", "RetentionSettings", "Settings", "SourceSettings", "days",
    "is_loopback", "load", "variable_of",
]  # fmt: skip


class Settings(BaseSettings):
    """All settings of a process."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        hide_input_in_errors=True,
    )

    database_url: str = Field(
        default="sqlite:///resultsink.db", description="where everything is kept"
    )
    database_direct_url: str | None = Field(
        default=None,
        description="the same Postgres past a pooler such as PgBouncer, to be notified at once",
    )
    database_schema: str = Field(
        default="resultsink",
        description="on Postgres: the schema that holds all tables",
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
    first_check_seconds: float = Field(
        default=120.0,
        ge=1,
        le=21_600,
        description="when a batch is first checked without a webhook; then at growing intervals",
    )
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
        return split_values(keys)

    @field_validator("database_schema")
    @classmethod
    def _plain(cls, name: str) -> str:
        return plain_name(name)

    @field_validator("public_url")
    @classmethod
    def _reachable(cls, url: str | None) -> str | None:
        if url is None:
            return None
        refuse_plain_http(url, "senders refuse anything else")
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
        """True where one process at a time serves the database."""
        return self.database_url.startswith("sqlite")

    def secrets(self) -> Iterator[str]:
        """Give every secret text, for whoever hides them."""
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
        """Give arguments priority, then the environment with its files, then the TOML file."""
        del dotenv_settings, file_secret_settings
        refuse_unknown(set(settings_cls.model_fields))
        assert isinstance(env_settings, EnvSettingsSource)  # noqa: S101  what pydantic promises
        in_files = values_in_files()
        stands_for = {f"{name}_file" for name in in_files}
        given = {n: v for n, v in env_settings.env_vars.items() if n not in stands_for}
        env_settings.env_vars = {**given, **in_files}
        in_file = InitSettingsSource(settings_cls, init_kwargs=settings_in_file())
        return init_settings, env_settings, in_file


class GivenSettings(Settings):
    """Settings that are all arguments: reads neither environment nor file."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        *others: PydanticBaseSettingsSource,
        **named: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Use the arguments, and nothing else."""
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


def _sentence(error: ValidationError) -> str:
    first = error.errors(include_input=False)[0]
    name = ".".join(str(part) for part in first["loc"]) or "settings"
    reason = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        known = Settings.model_fields, SourceSettings.model_fields, RetentionSettings.model_fields
        reason = f"there is no such setting; {hint([*map(str, first['loc'])], *known)}"
    if first["type"] == "model_type":
        reason = f"it must be a table, such as [{name}] in resultsink.toml"
    return f"The setting {name} is wrong: {reason}{'' if reason.endswith('?') else '.'}"
