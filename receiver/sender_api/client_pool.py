"""The HTTP clients that call senders' APIs: one for each call in flight, kept for the next."""

import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import httpx

from receiver.settings import is_loopback
from receiver.sources import Source

KEPT_SECONDS = 30.0
"""After how long without use a client is closed, at the next call to its origin."""


class Clients:
    """Many clients that act as one, made by `make` when all others of an origin are at work.

    A client looks at each of its connections, with a system call, whenever a call begins or ends
    (https://github.com/encode/httpcore/pull/928): 32 calls at once by one client take four times
    the CPU that they take by 32. And what a cancelled call leaves behind
    (https://github.com/encode/httpcore/pull/986) harms no other.
    """

    def __init__(self, make: Callable[[], httpx.AsyncClient]) -> None:
        self._make = make
        self._new = [make()]  # now, for a proxy that cannot be is an error at the start
        self._idle: defaultdict[str, deque[tuple[httpx.AsyncClient, float]]] = defaultdict(deque)
        self._is_closed = False

    @asynccontextmanager
    async def stream(
        self, method: str, url: str, /, **options: Any
    ) -> AsyncIterator[httpx.Response]:
        """Make a call by the client that was idle for the shortest time. Raises what httpx does."""
        if self._is_closed:
            raise RuntimeError("the clients are closed")
        idle = self._idle[urlsplit(url).netloc]
        client = self._taken(idle)
        try:
            await _close_older(idle, KEPT_SECONDS)
            async with client.stream(method, url, **options) as response:
                yield response
        except Exception:
            idle.append((client, time.monotonic()))
            raise
        except BaseException:  # cancelled, or left in the middle
            await client.aclose()
            raise
        idle.append((client, time.monotonic()))

    def _taken(self, idle: deque[tuple[httpx.AsyncClient, float]]) -> httpx.AsyncClient:
        if idle:
            return idle.pop()[0]
        return self._new.pop() if self._new else self._make()

    async def __aenter__(self) -> "Clients":
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
    """Close those that nobody needed for so long, whatever they say to it."""
    while idle and time.monotonic() - idle[0][1] >= seconds:
        with suppress(Exception):
            await idle.popleft()[0].aclose()


Wire = httpx.AsyncClient | Clients
"""What makes calls: a client, or many of them."""


def clients_for(*sources: Source) -> Clients:
    """Clients for these senders' APIs: no redirects, so that keys go nowhere else.

    The user's proxy (HTTPS_PROXY and the like) is used, but not for what is on this machine.
    """
    hosts = {urlsplit(source.base_url).hostname or "" for source in sources}
    near = {"localhost", "127.0.0.1", "::1", *filter(is_loopback, hosts)}
    mounts = {f"all://[{host}]" if ":" in host else f"all://{host}": None for host in near}
    trusted = httpx.create_ssl_context()  # takes longer than all the rest of a client

    def make() -> httpx.AsyncClient:
        return httpx.AsyncClient(
            verify=trusted,
            follow_redirects=False,
            mounts=mounts,
            headers={"user-agent": "resultsink"},
        )

    return Clients(make)
