"""Results as a stream, read from the store page by page as the client takes them."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from functools import partial

from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from receiver.api.context import ApiContext
from receiver.api.responses import RETRY_AFTER, Problem

MAX_STREAMS = 16
PIECE_BYTES = 64 * 1024

STALL_SECONDS = 60.0
"""Seconds that a client may take nothing: each holds a page of results in memory."""


class ResultLines(StreamingResponse):
    """JSON Lines in constant memory: a page is read when the one before it has been sent.

    No thread and no connection to the database waits for the client, and nothing goes on when it
    leaves. An error breaks the connection off before the regular end of the response: half of the
    results must not look like all of them.
    """

    media_type = "application/x-ndjson"

    def __init__(self, context: ApiContext, pages: Iterator[bytes], *, is_complete: bool) -> None:
        self._context = context
        complete = "true" if is_complete else "false"
        super().__init__(
            _pieces(context, pages),
            headers={"resultsink-complete": complete, "cache-control": "no-store"},
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._context.streams >= MAX_STREAMS:
            full = Problem(
                503, "Too many results are being read: try again in 5 seconds.", headers=RETRY_AFTER
            )
            await full.response()(scope, receive, send)
            return
        self._context.streams += 1
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._context.streams -= 1

    async def stream_response(self, send: Send) -> None:
        await super().stream_response(partial(_in_time, send))


async def _pieces(context: ApiContext, pages: Iterator[bytes]) -> AsyncIterator[bytes]:
    while (page := await context.in_thread(next, pages, None)) is not None:
        for start in range(0, len(page), PIECE_BYTES):
            yield page[start : start + PIECE_BYTES]


async def _in_time(send: Send, message: Message) -> None:
    async with asyncio.timeout(STALL_SECONDS):
        await send(message)
