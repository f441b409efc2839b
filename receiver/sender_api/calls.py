"""Calls to a sender's API: paced, bounded in time and size, and judged."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any

import httpx
from starlette.concurrency import run_in_threadpool

from receiver.errors import (
    FetchError,
    RateLimited,
    Refused,
    SourceRefused,
    Unavailable,
    Unreadable,
)
from receiver.json_values import leniently
from receiver.providers.model import Answer, Request
from receiver.sender_api.client_pool import Wire
from receiver.sender_api.rate_limit import LocalRateLimiter, RateLimiter
from receiver.sender_api.stream_parsers import ServerSentEvents, StreamParser
from receiver.sources import Source
from receiver.telemetry.logs import get_logger

log = get_logger("calls")

CALL_SECONDS = httpx.Timeout(60.0, connect=10.0)
TOTAL_SECONDS = 600.0
"""A whole answer, however slowly it trickles; streams have no such end, but each read has."""

MAX_ANSWER_BYTES = 128 * 1024 * 1024
LARGE_BYTES = 256 * 1024
"""Answers, and items of a stream, above it are parsed in a thread: deliveries need not wait."""

MAX_SAID = 400
"""Characters of an error that are kept; senders have quoted whole pages."""


class AnswerTooLarge(Unavailable):
    """Stopped reading an answer that would not fit into memory; a smaller page may."""


class NotReached(Unavailable):
    """Never got a connection, so that nothing was done at the sender."""


class Calls:
    """Makes the requests of one source. The API key goes to its base URL and nowhere else."""

    def __init__(
        self,
        source: Source,
        wire: Wire,
        *,
        rate_limiter: RateLimiter | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.source = source
        self._wire = wire
        self._clock = clock
        self._rate_limiter = rate_limiter or LocalRateLimiter(source.settings.requests_per_second)
        self._answered: Request | None = None

    @property
    def probe(self) -> Request | None:
        """A cheap call that only a refused account is refused: where the sender has none that is
        known to be one, what it answered last. None before it has.
        """
        return self.source.provider.probe() or self._answered

    async def call(self, request: Request) -> Any:
        """The parsed answer to one request; raises the FetchError that says what to do."""
        key = await self._turn()
        with self._told(key):
            async with asyncio.timeout(TOTAL_SECONDS), self._asked(request, key) as response:
                data = await self._judged(response, request)
        if request.method == "GET":
            self._answered = request
        return data

    @asynccontextmanager
    async def stream(
        self, request: Request, cutter: StreamParser
    ) -> AsyncIterator[AsyncIterator[tuple[Any, int]]]:
        """The items of a streamed answer with their sizes, as they come.

        Raises what `call` does, also while they come. An item may be worked on for as long as that
        takes: nothing more is read meanwhile.
        """
        key = await self._turn()
        with self._told(key):
            async with self._asked(request, key) as response:
                if not response.is_success:
                    await self._judged(response, request)
                    raise Unavailable(f"the sender answered {response.status_code}")
                _refuse_another_type(response, cutter)
                yield _items(response, cutter, self.source.name)

    async def _turn(self) -> str:
        """The key, once it is our turn."""
        key = self.source.settings.api_key
        if key is None:
            name = self.source.name
            variable = f"RESULTSINK_SOURCES__{name.upper()}__API_KEY"
            raise SourceRefused(f"no api_key is set for source {name} (set {variable})")
        await self._rate_limiter.turn()
        return key.get_secret_value()

    async def _judged(self, response: httpx.Response, request: Request) -> Any:
        data = await _read(response)
        answer = Answer(response.status_code, response.headers, data, request.waits)
        try:
            self.source.provider.judge(answer, now=self._clock())
        except RateLimited as limited:
            await self._rate_limiter.hold(min(limited.retry_after or 1.0, 3600.0))
            raise
        return data

    def _asked(self, request: Request, key: str) -> AbstractAsyncContextManager[httpx.Response]:
        return self._wire.stream(
            request.method,
            self.source.base_url + request.path,
            params=request.params,
            json=request.json,
            headers=self.source.provider.headers(key),
            timeout=CALL_SECONDS,
        )

    @staticmethod
    @contextmanager
    def _told(key: str) -> Iterator[None]:
        """Turn what goes wrong on the way into FetchErrors, none of which shows the key."""
        try:
            yield
        except httpx.InvalidURL as error:  # base_url is none: that is looked at when we start
            raise Refused(f"what is asked for makes no URL: {error}") from error
        except httpx.LocalProtocolError:  # its text quotes the header, and nothing was sent
            raise SourceRefused("the api_key holds what no HTTP header can hold") from None
        except TimeoutError as error:
            raise Unavailable(f"the answer was not whole after {TOTAL_SECONDS:.0f} s") from error
        except (httpx.HTTPError, httpx.StreamError) as error:
            name = type(error).__name__
            kind = NotReached if isinstance(error, _NO_CONNECTION) else Unavailable
            said = f"the sender could not be asked: {name} {error}".strip()
            raise kind(_tellable(said, key)) from error
        except FetchError as error:
            error.args = tuple(_tellable(str(arg), key) for arg in error.args)
            raise


def _tellable(said: str, key: str) -> str:
    """What an error may say: hidden first and cut then, as half a key would not be found."""
    return said.replace(key, "<api_key>")[:MAX_SAID]


_NO_CONNECTION = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)


async def _read(response: httpx.Response) -> Any:
    """The parsed JSON of a whole answer; None where it is none."""
    body = await _bounded(response)
    if len(body) > LARGE_BYTES:
        return await run_in_threadpool(_parsed, body, large=True)
    return _parsed(body)


def _refuse_another_type(response: httpx.Response, cutter: StreamParser) -> None:
    """A proxy's page would pass for a stream without events."""
    kind = response.headers.get("content-type", "")
    if isinstance(cutter, ServerSentEvents) and "text/event-stream" not in kind:
        raise Unavailable(f"the answer is no event stream but {kind or 'of no type'}")
    if "text/html" in kind:
        raise Unavailable("the answer is a page of HTML")


async def _items(
    response: httpx.Response, cutter: StreamParser, source: str
) -> AsyncIterator[tuple[Any, int]]:
    """The items that can be read: one that cannot must not keep those behind it away."""
    async for piece in _pieces(response, cutter):
        try:
            if len(piece) > LARGE_BYTES:
                found = await run_in_threadpool(cutter.parse, piece, politely=True)
            else:
                found = cutter.parse(piece)
        except Unreadable as error:
            log.warning("an item is left out", source=source, bytes=len(piece), why=str(error))
            continue
        for item in found:
            yield item, len(piece)


async def _pieces(response: httpx.Response, cutter: StreamParser) -> AsyncIterator[bytes]:
    async for chunk in response.aiter_bytes():
        for piece in cutter.feed(chunk):
            yield piece
    for piece in cutter.end():
        yield piece


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
