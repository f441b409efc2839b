"""Calls to a sender's API: paced, bounded in time and size, and judged."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import httpx
from starlette.concurrency import run_in_threadpool

from receiver.errors import RateLimited, SourceRefused, Unavailable
from receiver.providers import Answer, Request
from receiver.providers.reading import leniently
from receiver.sources import Source

CALL_SECONDS = httpx.Timeout(60.0, connect=10.0)
MAX_ANSWER_BYTES = 128 * 1024 * 1024
LARGE_BYTES = 256 * 1024
"""Answers above it are parsed in a thread, so that deliveries need not wait for it."""


class AnswerTooLarge(Unavailable):
    """Stopped reading an answer that would not fit into memory; a smaller page may."""


class NotReached(Unavailable):
    """Never got a connection, so that nothing was done at the sender."""


class Pace:
    """One source's limit of requests per second, shared by all of its workers in this process.

    A 429 holds everybody back until the sender's moment has come, not only who met it.
    """

    def __init__(self, per_second: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval = 1.0 / per_second
        self._clock = clock
        self._next = 0.0
        self._held = 0.0

    async def turn(self) -> None:
        """Return when a request may be made."""
        mine = self._booked()
        while (wait := mine - self._clock()) > 0:
            await asyncio.sleep(wait)
            if mine < self._held:  # somebody met a 429 while we waited
                mine = self._booked()

    def hold(self, seconds: float) -> None:
        """Let nobody go before `seconds` have passed, not even who waits for a turn already."""
        self._held = max(self._held, self._clock() + seconds)
        self._next = max(self._next, self._held)

    def _booked(self) -> float:
        mine = max(self._next, self._clock())
        self._next = mine + self._interval
        return mine


class Calls:
    """Makes the requests of one source. The API key goes to its base URL and nowhere else."""

    def __init__(
        self,
        source: Source,
        client: httpx.AsyncClient,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.source = source
        self._client = client
        self._clock = clock
        self._pace = Pace(source.settings.requests_per_second)

    async def call(self, request: Request) -> Any:
        """The parsed answer to one request; raises the FetchError that says what to do."""
        key = self.source.settings.api_key
        if key is None:
            name = self.source.name
            variable = f"RESULTSINK_SOURCES__{name.upper()}__API_KEY"
            raise SourceRefused(f"no api_key is set for source {name} (set {variable})")
        await self._pace.turn()
        answer = await self._ask(request, key.get_secret_value())
        try:
            self.source.provider.judge(answer, now=self._clock())
        except RateLimited as limited:
            self._pace.hold(min(limited.retry_after or 1.0, 3600.0))
            raise
        return answer.data

    async def _ask(self, request: Request, key: str) -> Answer:
        try:
            async with self._client.stream(
                request.method,
                self.source.base_url + request.path,
                params=request.params,
                json=request.json,
                headers=self.source.provider.headers(key),
                timeout=CALL_SECONDS,
            ) as response:
                body = await _bounded(response)
        except httpx.InvalidURL as error:
            raise SourceRefused(f"base_url is wrong: {error}") from error
        except (httpx.HTTPError, httpx.StreamError) as error:
            name = type(error).__name__
            kind = NotReached if isinstance(error, _NO_CONNECTION) else Unavailable
            raise kind(f"the sender could not be asked: {name} {error}".strip()) from error
        if len(body) > LARGE_BYTES:
            data = await run_in_threadpool(_parsed, body, large=True)
        else:
            data = _parsed(body)
        return Answer(response.status_code, response.headers, data)


_NO_CONNECTION = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)


async def _bounded(response: httpx.Response) -> bytes:
    chunks, size = [], 0
    async for chunk in response.aiter_bytes():
        size += len(chunk)
        if size > MAX_ANSWER_BYTES:
            raise AnswerTooLarge(f"the answer has more than {MAX_ANSWER_BYTES} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


def _parsed(body: bytes, *, large: bool = False) -> Any:
    try:
        return leniently(body, politely=large)
    except ValueError:
        return None
