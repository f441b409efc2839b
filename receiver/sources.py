"""Sources: the configured sender accounts, each with its provider and signature scheme."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from receiver.errors import UsageError
from receiver.providers import Provider
from receiver.providers.valyu import Valyu
from receiver.schemes import Scheme, override
from receiver.settings import Settings, SourceSettings
from receiver.signatures import Key, prepare

PROVIDERS: Mapping[str, type[Provider]] = {"valyu": Valyu}
_NAMES = " or ".join(f'"{name}"' for name in sorted(PROVIDERS))


@dataclass(frozen=True)
class Source:
    """One sender account, ready to verify and to be asked."""

    name: str
    provider: Provider
    scheme: Scheme
    settings: SourceSettings
    account_keys: tuple[Key, ...] = field(default=(), repr=False)

    @property
    def base_url(self) -> str:
        """Where its API is, without a slash at the end."""
        return (self.settings.base_url or self.provider.base_url).rstrip("/")


def configured(settings: Settings) -> dict[str, Source]:
    """Build every source; raises UsageError, one sentence that names the setting."""
    return {name: _source(name, given) for name, given in settings.sources.items()}


def named(sources: Mapping[str, Source], name: str) -> Source:
    """The source called `name`; raises UsageError that lists those there are."""
    if name in sources:
        return sources[name]
    there = ", ".join(sorted(sources)) or "none"
    table, variable = f"[sources.{name}]", f"RESULTSINK_SOURCES__{name.upper()}__"
    is_provider = name in PROVIDERS
    if not is_provider:  # then nothing else says which adapter it needs
        table += f" with provider = {_NAMES}"
    advice = f"add {table} to resultsink.toml"
    if re.fullmatch(r"[a-z0-9_]+", name):  # no other name can be written as a variable
        provider = "" if is_provider else f"{variable}PROVIDER to {_NAMES}, and "
        advice += f", or set {provider}{variable}API_KEY"
    raise UsageError(f"There is no source {name!r} (configured: {there}): {advice}.")


def _source(name: str, settings: SourceSettings) -> Source:
    kind = settings.provider or name
    if kind not in PROVIDERS:
        known = ", ".join(sorted(PROVIDERS))
        raise UsageError(
            f"The setting sources.{name}.provider is wrong: {kind!r} is not one of {known}."
        )
    provider = PROVIDERS[kind]()
    try:
        scheme = override(provider.scheme, settings.signing, settings.tolerance)
    except ValueError as error:
        raise UsageError(f"The setting sources.{name}.signing is wrong: {error}.") from None
    try:
        keys = [
            key
            for secret in settings.signing_secrets
            for key in prepare(scheme, secret.get_secret_value())
        ]
    except ValueError as error:
        raise UsageError(f"The setting sources.{name}.signing_secrets is wrong: {error}.") from None
    return Source(name, provider, scheme, settings, tuple(keys))
