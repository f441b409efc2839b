"""Endpoints in memory, with keys that are ready to verify."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial

from anyio import CapacityLimiter, to_thread

from receiver.signatures.verify import Key, prepare
from receiver.sources import Source
from receiver.telemetry.logs import get_logger
from receiver.telemetry.throttle import Throttle
from storage import MAX_SECRETS, CannotStore, EndpointView, SigningSecret, Store, WrongKey

LOOK_SECONDS = 1.0
"""Interval between two looks for changes of endpoints and secrets."""

MAX_CACHED = 50_000
READ_SECONDS = 1.5
READS_AT_ONCE = 4
"""Reads of endpoints that are not cached: strangers can ask for many."""

_ID = re.compile(r"[A-Za-z0-9_-]{22}")

log = get_logger("endpoints")


@dataclass(frozen=True, slots=True)
class SecretKeys:
    """One secret with its keys, of which the reading that matched last comes first."""

    secret: SigningSecret
    keys: tuple[Key, ...] = field(repr=False)

    def valid_at(self, moment: datetime) -> bool:
        """Return True until the secret's end.

        It has no beginning: it is registered by the database's clock, and this machine's may be
        behind.
        """
        until = self.secret.valid_until
        return until is None or moment < until


@dataclass(frozen=True, slots=True)
class CachedEndpoint:
    """An endpoint with the keys of its secrets, newest secret first.

    `endless_keys` are its keys where no secret has an end: most have none, and need no look at the
    clock for each delivery. `newest` is the id of the newest secret.
    """

    view: EndpointView
    secrets: tuple[SecretKeys, ...]
    endless_keys: tuple[Key, ...] | None = field(repr=False)
    newest: int = 0

    def keys(self, now: float) -> Sequence[Key]:
        """Return the keys that are valid at a moment (Unix time)."""
        if self.endless_keys is not None:
            return self.endless_keys
        moment = datetime.fromtimestamp(now, UTC)
        valid = [secret for secret in self.secrets if secret.valid_at(moment)]
        return [key for secret in valid[:MAX_SECRETS] for key in secret.keys]


def keys_for(source: Source, endpoint: CachedEndpoint | None, now: float) -> Sequence[Key]:
    """Return the keys that prove a delivery: the endpoint's own and the account's.

    A sender with one secret for the whole account signs with it whatever the URL is.
    """
    account = source.account_keys
    if endpoint is None:
        return account
    own = endpoint.keys(now)
    return [*own, *account] if account else own


class EndpointCache:
    """Finds endpoints by id; notices a change made by any process within two seconds."""

    def __init__(self, store: Store, sources: Mapping[str, Source]) -> None:
        self._store = store
        self._sources = sources
        self._cached: dict[str, CachedEndpoint] = {}
        self._revision = -1
        self._watched = [each.account for each in sources.values() if each.account.is_watched]
        self._reads = asyncio.Semaphore(READS_AT_ONCE)
        self._threads = CapacityLimiter(2 * READS_AT_ONCE)  # some may be left to themselves
        self._throttle = Throttle()

    def cached(self, endpoint_id: str) -> CachedEndpoint | None:
        """Return the endpoint if it is in memory."""
        return self._cached.get(endpoint_id)

    async def find(self, endpoint_id: str) -> CachedEndpoint | None:
        """Return the endpoint, from memory or from the store; raises CannotStore.

        A text that cannot be an id costs nothing, an unknown id costs one bounded read.
        """
        found = self._cached.get(endpoint_id)
        if found is not None or not _ID.fullmatch(endpoint_id):
            return found
        async with self._turn():
            found = self._cached.get(endpoint_id)
            if found is not None:
                return found
            revision = self._revision
            find = self._store.endpoints.find
            view = await self._read(partial(find, endpoint_id, urgent=True))
        return None if view is None else self._keep(view, revision)

    async def find_by_resource(self, source: str, resource: str) -> CachedEndpoint | None:
        """Return the endpoint that expects a resource, by one bounded read; raises CannotStore."""
        async with self._turn():
            find = self._store.endpoints.find_by_resource
            view = await self._read(partial(find, source, resource, urgent=True))
        return None if view is None else self._with_keys(view)

    async def _read(self, read: Callable[[], EndpointView | None]) -> EndpointView | None:
        """Read in a thread of this cache's own; leave it to itself when nobody waits any more."""
        return await to_thread.run_sync(read, abandon_on_cancel=True, limiter=self._threads)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Wait for a turn to read; with the read, no longer than a sender may wait."""
        try:
            async with asyncio.timeout(READ_SECONDS), self._reads:
                yield
        except TimeoutError:
            raise CannotStore("The database did not answer in time.") from None
        except WrongKey:  # a command may have been given a newer key than we were started with
            raise CannotStore(
                "A signing secret is encrypted with a key that this process does not have: "
                "start it again with that key among its encryption_keys."
            ) from None

    async def follow(self) -> None:
        """Forget everything whenever an endpoint or a secret has changed; runs until cancelled.

        Looks at the files with secrets of accounts as often.
        """
        while True:
            for account in self._watched:
                await to_thread.run_sync(account.look, limiter=self._threads)
            try:
                look = self._store.endpoints.revision
                revision = await to_thread.run_sync(look, limiter=self._threads)
            except CannotStore as error:
                self._throttle.log(
                    log.warning, "follow", "endpoints cannot be read", error=str(error)
                )
            else:
                if revision != self._revision:
                    self._cached.clear()
                    self._revision = revision
            await asyncio.sleep(LOOK_SECONDS)

    def remember(self, endpoint: CachedEndpoint, matched: Key) -> SigningSecret | None:
        """Try the reading that matched first from now on; return the secret if that is new."""
        for position, known in enumerate(endpoint.secrets):
            if known.secret.id == matched.secret_id and known.secret.reading != matched.reading:
                secret = replace(known.secret, reading=matched.reading)
                secrets = list(endpoint.secrets)
                secrets[position] = SecretKeys(secret, _first(known.keys, matched.reading))
                # what was forgotten meanwhile (closed, rotated) must not come back by this
                if self._cached.get(endpoint.view.id) is endpoint:
                    self._cached[endpoint.view.id] = _endpoint(endpoint.view, tuple(secrets))
                return secret
        return None

    def _keep(self, view: EndpointView, revision: int) -> CachedEndpoint | None:
        endpoint = self._with_keys(view)
        if endpoint is not None and revision == self._revision:
            while len(self._cached) >= MAX_CACHED:
                del self._cached[next(iter(self._cached))]
            self._cached[view.id] = endpoint
        return endpoint

    def _with_keys(self, view: EndpointView) -> CachedEndpoint | None:
        source = self._sources.get(view.source)
        return None if source is None else with_keys(view, source)


def with_keys(view: EndpointView, source: Source) -> CachedEndpoint:
    """Return an endpoint with the keys of its secrets; raises CannotStore if none can be used."""
    secrets, fault = [], None
    for secret in view.secrets:
        try:
            keys = prepare(source.scheme, secret.text, secret_id=secret.id)
        except ValueError as error:
            fault = error
        else:
            secrets.append(SecretKeys(secret, _first(keys, secret.reading)))
    if fault is not None and not secrets and not source.account_keys:
        # our settings and our stored secret do not fit: the sender is not to blame
        raise CannotStore(f"No secret of endpoint {view.id} can be used: {fault}.")
    return _endpoint(view, tuple(secrets))


def _endpoint(view: EndpointView, secrets: tuple[SecretKeys, ...]) -> CachedEndpoint:
    is_endless = all(each.secret.valid_until is None for each in secrets)
    endless_keys = tuple(key for each in secrets[:MAX_SECRETS] for key in each.keys)
    newest = max((each.secret.id for each in secrets), default=0)
    return CachedEndpoint(view, secrets, endless_keys if is_endless else None, newest)


def _first(keys: tuple[Key, ...], reading: str | None) -> tuple[Key, ...]:
    return tuple(sorted(keys, key=lambda key: key.reading != reading))
