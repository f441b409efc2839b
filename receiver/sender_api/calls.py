"""Calls to a sender's API: rate-limited, bounded in time and size, and judged."""

import asyncio
import json
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
"""Limit for a whole answer, however slowly it trickles. A stream has none, but each read has."""

MAX_ANSWER_BYTES = 128 * 1024 * 1024
LARGE_BYTES = 256 * 1024
"""Answers and stream items above this are parsed in a thread, so that deliveries need not wait."""

MAX_ERROR_CHARACTERS = 400
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
        self._last_answered: Request | None = None
        self.made = 0
        """Requests that were made so far."""

    @property
    def probe(self) -> Request | None:
        """Return a cheap call that is refused only where the whole account is.

        Where the provider has none, this is the last request that was answered; None before that.
        """
        return self.source.provider.probe() or self._last_answered

    async def call(self, request: Request) -> Any:
        """Return the parsed answer to a request; raises the FetchError that says what to do."""
        key = await self._acquire()
        with _as_fetch_errors(key):
            async with asyncio.timeout(TOTAL_SECONDS), self._send(request, key) as response:
                data = await self._judge(response, request)
        if request.method == "GET":
            self._last_answered = request
        return data

    @asynccontextmanager
    async def stream(
        self, request: Request, parser: StreamParser
    ) -> AsyncIterator[AsyncIterator[tuple[Any, int]]]:
        """Yield the items of a streamed answer with their sizes, as they arrive.

        Raises what `call` does, also between two items. Nothing more is read while the caller
        works on an item, however long that takes.
        """
        key = await self._acquire()
        with _as_fetch_errors(key):
            async with self._send(request, key) as response:
                if not response.is_success:
                    await self._judge(response, request)
                    raise Unavailable(f"the sender answered {response.status_code}")
                _refuse_another_type(response, parser)
                yield _items(response, parser, self.source.name)

    async def _acquire(self) -> str:
        """Return the API key once the rate limit allows a request."""
        key = self.source.settings.api_key
        if key is None:
            name = self.source.name
            variable = f"RESULTSINK_SOURCES__{name.upper()}__API_KEY"
            raise SourceRefused(f"no api_key is set for source {name} (set {variable})")
        await self._rate_limiter.acquire()
        self.made += 1
        return key.get_secret_value()

    async def _judge(self, response: httpx.Response, request: Request) -> Any:
        data = await _read(response)
        answer = Answer(response.status_code, response.headers, data, request.waits)
        try:
            self.source.provider.judge(answer, now=self._clock())
        except RateLimited as limited:
            await self._rate_limiter.hold(min(limited.retry_after or 1.0, 3600.0))
            raise
        return data

    def _send(self, request: Request, key: str) -> AbstractAsyncContextManager[httpx.Response]:
        headers = dict(self.source.provider.headers(key))
        if request.json is not None:
            headers["content-type"] = "application/json"
        return self._wire.stream(
            request.method,
            self.source.base_url + request.path,
            params=request.params,
            content=_body(request.json),
            headers=headers,
            timeout=CALL_SECONDS,
        )


def _body(value: Any) -> bytes | None:
    """Return a value as JSON; raises Refused for NaN, infinities and lone surrogates."""
    if value is None:
        return None
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        return text.encode()
    except ValueError as error:
        raise Refused(f"what is asked for cannot be sent as JSON: {error}") from None


_NO_CONNECTION = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)


@contextmanager
def _as_fetch_errors(key: str) -> Iterator[None]:
    """Turn every error of a call into a FetchError, none of which shows the key."""
    try:
        yield
    except httpx.InvalidURL as error:  # not of base_url, which is checked at the start
        raise Refused(f"what is asked for makes no URL: {error}") from error
    except httpx.LocalProtocolError:  # its text quotes the header, and nothing was sent
        raise SourceRefused("the api_key holds what no HTTP header can hold") from None
    except TimeoutError as error:
        raise Unavailable(f"the answer was not whole after {TOTAL_SECONDS:.0f} s") from error
    except (httpx.HTTPError, httpx.StreamError) as error:
        kind = NotReached if isinstance(error, _NO_CONNECTION) else Unavailable
        words = str(error).rstrip(".")  # it stands within our sentences
        text = f"the sender could not be asked: {type(error).__name__} {words}".strip()
        raise kind(_without_key(text, key)) from error
    except FetchError as error:
        error.args = tuple(_without_key(str(arg), key) for arg in error.args)
        raise


def _without_key(text: str, key: str) -> str:
    """Hide the key, then shorten the text: half a key would not be found."""
    return text.replace(key, "<api_key>")[:MAX_ERROR_CHARACTERS]


async def _read(response: httpx.Response) -> Any:
    """Return the parsed JSON of a whole answer, or None where it is not JSON."""
    body = await _read_bounded(response)
    if len(body) > LARGE_BYTES:
        return await run_in_threadpool(_parse, body, large=True)
    return _parse(body)


def _refuse_another_type(response: httpx.Response, parser: StreamParser) -> None:
    """Raise Unavailable for a proxy's page, which would pass for a stream without events."""
    kind = response.headers.get("content-type", "")
    if isinstance(parser, ServerSentEvents) and "text/event-stream" not in kind:
        raise Unavailable(f"the answer is no event stream but {kind or 'of no type'}")
    if "text/html" in kind:
        raise Unavailable("the answer is a page of HTML")


async def _items(
    response: httpx.Response, parser: StreamParser, source: str
) -> AsyncIterator[tuple[Any, int]]:
    """Yield the readable items; an unreadable one is left out and does not end the stream."""
    async for piece in _pieces(response, parser):
        try:
            if len(piece) > LARGE_BYTES:
                found = await run_in_threadpool(parser.parse, piece, politely=True)
            else:
                found = parser.parse(piece)
        except Unreadable as error:
            log.warning("an item is left out", source=source, bytes=len(piece), why=str(error))
            continue
        for item in found:
            yield item, len(piece)


async def _pieces(response: httpx.Response, parser: StreamParser) -> AsyncIterator[bytes]:
    async for chunk in response.aiter_bytes():
        for piece in parser.feed(chunk):
            yield piece
    for piece in parser.end():
        yield piece


async def _read_bounded(response: httpx.Response) -> bytes:
    chunks, size = [], 0
    async for chunk in response.aiter_bytes():
        size += len(chunk)
        if size > MAX_ANSWER_BYTES:
            raise AnswerTooLarge(f"the answer has more than {MAX_ANSWER_BYTES} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


def _parse(body: bytes, *, large: bool = False) -> Any:
    try:
        return leniently(body, politely=large)
    except ValueError:
        return None
