"""The endpoints in memory: which URL expects what, with keys that are ready to verify."""

import asyncio
import re
import time
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
"""How often we look whether an endpoint or a secret has changed."""

MAX_CACHED = 50_000
READ_SECONDS = 1.5
READS_AT_ONCE = 4
"""Reads for endpoints that are not cached: strangers can ask for many."""

_ID = re.compile(r"[A-Za-z0-9_-]{22}")

log = get_logger("endpoints")


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one secret, the reading that matched last first, and how long they are valid."""

    secret: SigningSecret
    keys: tuple[Key, ...] = field(repr=False)

    def valid_at(self, moment: datetime) -> bool:
        """Whether a delivery of this moment may be signed with this secret.

        From the moment on that it is registered, which the database's clock tells: this machine's
        may be behind.
        """
        until = self.secret.valid_until
        return until is None or moment < until


@dataclass(frozen=True, slots=True)
class CachedEndpoint:
    """An endpoint with prepared keys, newest secret first."""

    view: EndpointView
    secrets: tuple[Keys, ...]
    always: tuple[Key, ...] | None = field(repr=False)
    newest: int = 0

    def keys(self, now: float) -> Sequence[Key]:
        """The keys that are valid at this moment (Unix time)."""
        if self.always is not None:
            return self.always
        moment = datetime.fromtimestamp(now, UTC)
        valid = [keys for keys in self.secrets if keys.valid_at(moment)]
        return [key for keys in valid[:MAX_SECRETS] for key in keys.keys]


def keys_for(source: Source, endpoint: CachedEndpoint | None, now: float) -> Sequence[Key]:
    """The keys that prove a delivery at this door: its own and the account's.

    What has one secret for the whole account signs with it whatever the URL is.
    """
    account = source.account_keys
    if endpoint is None:
        return account
    own = endpoint.keys(now)
    return [*own, *account] if account else own


class EndpointCache:
    """Finds endpoints by id; a change made by any process is felt within two seconds."""

    def __init__(self, store: Store, sources: Mapping[str, Source]) -> None:
        self._store = store
        self._sources = sources
        self._cached: dict[str, CachedEndpoint] = {}
        self._revision = -1
        self._watched = [each.account for each in sources.values() if each.account.is_watched]
        self._reads = asyncio.Semaphore(READS_AT_ONCE)
        self._threads = CapacityLimiter(2 * READS_AT_ONCE)  # some may be left to themselves
        self._complaints = Throttle()

    def cached(self, endpoint_id: str) -> CachedEndpoint | None:
        """The endpoint if it is in memory."""
        return self._cached.get(endpoint_id)

    async def find(self, endpoint_id: str) -> CachedEndpoint | None:
        """The endpoint, read from the store when it must be; raises CannotStore.

        What cannot be an id costs nothing, an unknown one costs one bounded read.
        """
        found = self._cached.get(endpoint_id)
        if found is not None or not _ID.fullmatch(endpoint_id):
            return found
        async with self._turn():
            found = self._cached.get(endpoint_id)
            if found is not None:
                return found
            revision = self._revision
            view = await self._read(partial(self._store.endpoints.find, endpoint_id))
        return None if view is None else self._keep(view, revision)

    async def find_by_resource(self, source: str, resource: str) -> CachedEndpoint | None:
        """The endpoint that expects a resource, by one bounded read; raises CannotStore."""
        async with self._turn():
            view = await self._read(
                partial(self._store.endpoints.find_by_resource, source, resource)
            )
        return None if view is None else self._prepared(view)

    async def _read(self, read: Callable[[], EndpointView | None]) -> EndpointView | None:
        """In a thread of our own, left to itself when nobody waits for it any more."""
        return await to_thread.run_sync(read, abandon_on_cancel=True, limiter=self._threads)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """A turn to read: with the wait for it, no longer than a sender may wait for its answer."""
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

        The files with secrets of accounts are looked at as often.
        """
        while True:
            for account in self._watched:
                await to_thread.run_sync(account.look, limiter=self._threads)
            try:
                look = self._store.endpoints.revision
                revision = await to_thread.run_sync(look, limiter=self._threads)
            except CannotStore as error:
                if self._complaints.allow("follow", time.monotonic()) is not None:
                    log.warning("endpoints cannot be read", error=str(error))
            else:
                if revision != self._revision:
                    self._cached.clear()
                    self._revision = revision
            await asyncio.sleep(LOOK_SECONDS)

    def remember(self, endpoint: CachedEndpoint, matched: Key) -> SigningSecret | None:
        """Try the reading that matched first from now on; returns the secret if that is news."""
        for position, keys in enumerate(endpoint.secrets):
            if keys.secret.id == matched.secret_id and keys.secret.reading != matched.reading:
                secret = replace(keys.secret, reading=matched.reading)
                secrets = list(endpoint.secrets)
                secrets[position] = Keys(secret, _first(keys.keys, matched.reading))
                # what was forgotten meanwhile (closed, rotated) must not come back by this
                if self._cached.get(endpoint.view.id) is endpoint:
                    self._cached[endpoint.view.id] = _endpoint(endpoint.view, tuple(secrets))
                return secret
        return None

    def _keep(self, view: EndpointView, revision: int) -> CachedEndpoint | None:
        endpoint = self._prepared(view)
        if endpoint is not None and revision == self._revision:
            while len(self._cached) >= MAX_CACHED:
                del self._cached[next(iter(self._cached))]
            self._cached[view.id] = endpoint
        return endpoint

    def _prepared(self, view: EndpointView) -> CachedEndpoint | None:
        source = self._sources.get(view.source)
        return None if source is None else prepared(view, source)


def prepared(view: EndpointView, source: Source) -> CachedEndpoint:
    """The endpoint with the keys of its secrets; raises CannotStore where none can be used."""
    secrets, fault = [], None
    for secret in view.secrets:
        try:
            keys = prepare(source.scheme, secret.text, secret_id=secret.id)
        except ValueError as error:
            fault = error
        else:
            secrets.append(Keys(secret, _first(keys, secret.reading)))
    if fault is not None and not secrets and not source.account_keys:
        # our settings and our stored secret do not fit: the sender is not to blame
        raise CannotStore(f"No secret of endpoint {view.id} can be used: {fault}.")
    return _endpoint(view, tuple(secrets))


def _endpoint(view: EndpointView, secrets: tuple[Keys, ...]) -> CachedEndpoint:
    """Secrets without an end, as most are, need no look at the clock for each delivery."""
    endless = all(keys.secret.valid_until is None for keys in secrets)
    tried = secrets[:MAX_SECRETS]
    always = tuple(key for keys in tried for key in keys.keys) if endless else None
    newest = max((keys.secret.id for keys in secrets), default=0)
    return CachedEndpoint(view, secrets, always, newest)


def _first(keys: tuple[Key, ...], reading: str | None) -> tuple[Key, ...]:
    return tuple(sorted(keys, key=lambda key: key.reading != reading))
