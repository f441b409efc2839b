"""The HTTP clients that call senders' APIs: one for each call in flight, kept for the next."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import httpx

from receiver.settings import is_loopback
from receiver.sources import Source

KEPT_SECONDS = 30.0
"""How long a client that is not needed is kept; most servers close a silent connection later."""


class Clients:
    """Many clients that act as one, made by `make` when all others are at work.

    A client looks at each of its connections, with a system call, whenever a call begins or ends
    (https://github.com/encode/httpcore/pull/928): 32 calls at once by one client take four times
    the CPU that they take by 32. And what a cancelled call leaves behind
    (https://github.com/encode/httpcore/pull/986) harms no other.
    """

    def __init__(self, make: Callable[[], httpx.AsyncClient]) -> None:
        self._make = make
        self._idle: deque[tuple[httpx.AsyncClient, float]] = deque()

    @asynccontextmanager
    async def stream(
        self, method: str, url: str, /, **options: Any
    ) -> AsyncIterator[httpx.Response]:
        """Make a call by the client that was idle for the shortest time."""
        client = self._idle.pop()[0] if self._idle else self._make()
        await self._close_idle(KEPT_SECONDS)
        try:
            async with client.stream(method, url, **options) as response:
                yield response
        except asyncio.CancelledError:
            await client.aclose()
            raise
        except Exception:
            self._keep(client)
            raise
        self._keep(client)

    def _keep(self, client: httpx.AsyncClient) -> None:
        self._idle.append((client, time.monotonic()))

    async def _close_idle(self, seconds: float) -> None:
        """Close those that nobody needed for so long."""
        while self._idle and time.monotonic() - self._idle[0][1] >= seconds:
            await self._idle.popleft()[0].aclose()

    async def __aenter__(self) -> "Clients":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._close_idle(0)


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
