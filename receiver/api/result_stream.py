"""Results as a stream: read page by page at the reader's pace, cut off where they break."""

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
"""How long a reader may take nothing: each holds a page of results in memory."""


class ResultLines(StreamingResponse):
    """JSON Lines, flat in memory: a page is read when the one before it has been taken.

    No thread and no connection to the database waits for the reader, and nothing runs on when he
    leaves. An error ends the application, and with it the connection, without the end of a whole
    answer: half of the results must not look like all of them.
    """

    media_type = "application/x-ndjson"

    def __init__(self, desk: ApiContext, pages: Iterator[bytes], *, is_complete: bool) -> None:
        self._desk = desk
        complete = "true" if is_complete else "false"
        super().__init__(
            _pieces(desk, pages),
            headers={"resultsink-complete": complete, "cache-control": "no-store"},
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._desk.streams >= MAX_STREAMS:
            full = Problem(
                503, "Too many results are being read: try again in 5 seconds.", headers=RETRY_AFTER
            )
            await full.response()(scope, receive, send)
            return
        self._desk.streams += 1
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._desk.streams -= 1

    async def stream_response(self, send: Send) -> None:
        await super().stream_response(partial(_in_time, send))


async def _pieces(desk: ApiContext, pages: Iterator[bytes]) -> AsyncIterator[bytes]:
    while (page := await desk.ask(next, pages, None)) is not None:
        for start in range(0, len(page), PIECE_BYTES):
            yield page[start : start + PIECE_BYTES]


async def _in_time(send: Send, message: Message) -> None:
    async with asyncio.timeout(STALL_SECONDS):
        await send(message)
