"""A pool of HTTP clients for calls to senders' APIs: one client for each call in flight."""

import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import httpx

from receiver.sender_api.proxies import proxies_for, trusted_certificates
from receiver.sources import Source

KEPT_SECONDS = 30.0
"""A client that was idle for this long is closed at the next call to its origin."""


class ClientPool:
    """HTTP clients that act as one; `make` makes another when all of an origin are busy.

    A client looks at each of its connections, with a system call, whenever a call begins or ends
    (https://github.com/encode/httpcore/pull/928): 32 calls at once by one client take four times
    the CPU that they take by 32. A client whose call was cancelled is closed, so that what the call
    leaves behind (https://github.com/encode/httpcore/pull/986) harms no other.
    """

    def __init__(self, make: Callable[[], httpx.AsyncClient]) -> None:
        self._make = make
        self._new = [make()]
        self._idle: defaultdict[str, deque[tuple[httpx.AsyncClient, float]]] = defaultdict(deque)
        self._is_closed = False

    @asynccontextmanager
    async def stream(
        self, method: str, url: str, /, **options: Any
    ) -> AsyncIterator[httpx.Response]:
        """Make a call with the client that became idle last. Raises what httpx raises."""
        if self._is_closed:
            raise RuntimeError("the pool is closed")
        idle = self._idle[urlsplit(url).netloc]
        client = self._take(idle)
        try:
            await _close_older(idle, KEPT_SECONDS)
            async with client.stream(method, url, **options) as response:
                yield response
        except Exception:
            idle.append((client, time.monotonic()))
            raise
        except BaseException:  # cancelled, or left before the end of the answer
            await client.aclose()
            raise
        idle.append((client, time.monotonic()))

    def _take(self, idle: deque[tuple[httpx.AsyncClient, float]]) -> httpx.AsyncClient:
        if idle:
            return idle.pop()[0]
        return self._new.pop() if self._new else self._make()

    async def __aenter__(self) -> "ClientPool":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_closed = True
        self._idle[""].extend((client, 0.0) for client in self._new)
        for idle in self._idle.values():
            await _close_older(idle, 0)


async def _close_older(idle: deque[tuple[httpx.AsyncClient, float]], seconds: float) -> None:
    """Close the clients that were idle for so long; an error in closing is ignored."""
    while idle and time.monotonic() - idle[0][1] >= seconds:
        with suppress(Exception):
            await idle.popleft()[0].aclose()


Wire = httpx.AsyncClient | ClientPool
"""One client, or a pool of them."""


def clients_for(*sources: Source) -> ClientPool:
    """Return a pool for these sources. It follows no redirects, so that keys go nowhere else.

    The user's proxy (HTTPS_PROXY and the like) is used, except for addresses of this machine.
    Raises UsageError that names a variable which cannot be used.
    """
    proxies = proxies_for(source.base_url for source in sources)
    trusted = trusted_certificates()  # takes longer than all the rest of a client

    def make() -> httpx.AsyncClient:
        return httpx.AsyncClient(
            verify=trusted,
            follow_redirects=False,
            mounts={
                address: httpx.AsyncHTTPTransport(verify=trusted, proxy=proxy)
                for address, proxy in proxies.items()
            },
            headers={"user-agent": "resultsink"},
            trust_env=False,
        )

    return ClientPool(make)
