"""Sources: the configured sender accounts, each with its provider and signature scheme."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property, lru_cache

import httpx

from receiver.errors import UsageError
from receiver.providers.base import Provider
from receiver.providers.parallel.provider import Parallel
from receiver.providers.parallel_v0.provider import ParallelV0
from receiver.providers.valyu.provider import Valyu
from receiver.settings import Settings, SourceSettings
from receiver.signatures.account_keys import AccountKeys
from receiver.signatures.keys import Key
from receiver.signatures.overrides import override
from receiver.signatures.schemes import AnyScheme, Bearer

PROVIDERS: Mapping[str, type[Provider]] = {
    provider.name: provider for provider in (Valyu, Parallel, ParallelV0)
}
_NAMES = " or ".join(f'"{name}"' for name in sorted(PROVIDERS))

_CREDENTIALS = frozenset({b"authorization", b"cookie", b"proxy-authorization", b"x-api-key"})
_LIKE_CREDENTIALS = re.compile(
    rb"secret|token|api-?key|auth|password|cookie|credential", re.IGNORECASE
)
MAX_NAMES = 1024
"""Header names whose look is remembered; strangers may send any."""


def is_credential(header: bytes) -> bool:
    """Return True for a header whose name says that its value is a credential."""
    return _LIKE_CREDENTIALS.search(header) is not None


@dataclass(frozen=True)
class Source:
    """One sender account, ready to verify its deliveries and to call its API."""

    name: str
    provider: Provider
    scheme: AnyScheme
    settings: SourceSettings
    account: AccountKeys = field(repr=False)

    @property
    def account_keys(self) -> tuple[Key, ...]:
        """The account's own keys of now."""
        return self.account.keys

    @cached_property
    def not_kept(self) -> frozenset[bytes]:
        """Headers that are never stored, since they carry credentials."""
        return frozenset() if isinstance(self.scheme, Bearer) else _CREDENTIALS

    @cached_property
    def is_hidden(self) -> Callable[[bytes], bool] | None:
        """Predicate for headers of which only the name is stored; None where there are none.

        A sender may show its token in another header than the one that is set, and its operator
        must learn in which: so it holds for all that look like credentials, except for the headers
        that prove the body.
        """
        if not isinstance(self.scheme, Bearer):
            return None
        header, signed = self.scheme.header, self.scheme.signature
        proof = set() if signed is None else {signed.signature_header, signed.timestamp_header}

        @lru_cache(MAX_NAMES)
        def is_hidden(name: bytes) -> bool:
            is_known = name == header or name in _CREDENTIALS
            return is_known or (name not in proof and is_credential(name))

        return is_hidden

    @cached_property
    def signs_bodies(self) -> bool:
        """True where a delivery proves its body, and not only who sent it."""
        return not isinstance(self.scheme, Bearer) or self.scheme.signature is not None

    @property
    def base_url(self) -> str:
        """URL of its API, without a slash at the end."""
        return (self.settings.base_url or self.provider.base_url).rstrip("/")


def configured(settings: Settings) -> dict[str, Source]:
    """Build every source; raises UsageError, one sentence that names the setting."""
    return {name: _source(name, given) for name, given in settings.sources.items()}


def named(sources: Mapping[str, Source], name: str) -> Source:
    """Return the source called `name`; raises UsageError, which lists those there are."""
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


def webhook_url(public_url: str, source: str, endpoint_id: str | None = None) -> str:
    """Return the URL that a sender calls for an endpoint, or for the whole account."""
    account = f"{public_url}/webhooks/{source}"
    return account if endpoint_id is None else f"{account}/{endpoint_id}"


def _source(name: str, settings: SourceSettings) -> Source:
    kind = settings.provider or name
    if kind not in PROVIDERS:
        known = ", ".join(sorted(PROVIDERS))
        raise UsageError(
            f"The setting sources.{name}.provider is wrong: {kind!r} is not one of {known}."
        )
    provider = _provider(name, PROVIDERS[kind], settings)
    try:
        httpx.URL(settings.base_url or provider.base_url)
    except httpx.InvalidURL as error:
        raise UsageError(f"The setting sources.{name}.base_url is wrong: {error}.") from None
    try:
        scheme = override(provider.scheme, settings.signing, settings.tolerance)
    except ValueError as error:
        raise UsageError(f"The setting sources.{name}.signing is wrong: {error}.") from None
    secrets = [secret.get_secret_value() for secret in settings.signing_secrets]
    account = AccountKeys(name, scheme, secrets, settings.signing_secrets_file)
    return Source(name, provider, scheme, settings, account)


def _provider(name: str, kind: type[Provider], settings: SourceSettings) -> Provider:
    """Build the adapter with the source's options: what is unknown of its sender's API."""
    known = [option.name for option in fields(kind)]  # type: ignore[arg-type]
    unknown = [option for option in settings.api if option not in known]
    try:
        if unknown:
            there = ", ".join(known) or "none"
            raise ValueError(f"{unknown[0]!r} is not one of the options of {kind.name}: {there}")
        return kind(**settings.api)
    except ValueError as error:
        raise UsageError(f"The setting sources.{name}.api is wrong: {error}.") from None
