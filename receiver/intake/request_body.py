"""Reads a request's body within limits that are enforced while it streams."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from receiver.errors import ReceiverError

BODY_SECONDS = 10.0

Receive = Callable[[], Awaitable[Any]]


class BodyRefused(ReceiverError):
    """Would not read this body; the text is one of the outcomes in routes.STATUSES."""


class ClientGone(ReceiverError):
    """Lost the sender before the body was complete: there is nobody to answer."""


@dataclass(slots=True, eq=False)
class _Reading:
    task: "asyncio.Task[Any]"
    until: float
    is_late: bool = False


class Bodies:
    """Reads bodies, and counts the bytes of all that are being received or worked on.

    One look at the clock serves all that are being read: a timer for each would cost a tenth of
    a whole delivery.
    """

    def __init__(self, max_in_flight: int, *, seconds: float = BODY_SECONDS) -> None:
        self._max_in_flight = max_in_flight
        self._seconds = seconds
        self._in_flight = 0
        self._readings: set[_Reading] = set()
        self._look: asyncio.TimerHandle | None = None

    async def read(self, receive: Receive, *, limit: int, declared: int | None) -> bytes:
        """Return the whole body; its bytes count until `release`.

        Raises BodyRefused (`too large`, `timeout`, `overloaded`) or ClientGone; then nothing
        counts any more.
        """
        if declared is not None and declared > limit:
            raise BodyRefused("too large")
        reading = self._watch()
        try:
            return await self._stream(receive, limit)
        except asyncio.CancelledError:
            if not reading.is_late:
                raise
            reading.task.uncancel()
            raise BodyRefused("timeout") from None
        finally:
            self._readings.discard(reading)

    def hold(self, body: bytes, *, limit: int) -> bool:
        """Count a body that has come whole until `release`; return False if it must be refused."""
        size = len(body)
        if size > limit or self._in_flight + size > self._max_in_flight:
            return False
        self._in_flight += size
        return True

    def release(self, body: bytes) -> None:
        """Count a body no longer: it has been dealt with."""
        self._in_flight -= len(body)

    async def _stream(self, receive: Receive, limit: int) -> bytes:
        chunks: list[bytes] = []
        size, more = 0, True
        try:
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                chunk = message.get("body", b"")
                self._count(len(chunk), limit, size + len(chunk))
                chunks.append(chunk)
                size += len(chunk)
                more = message.get("more_body", False)
        except BaseException:
            self._in_flight -= size
            raise
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _count(self, more: int, limit: int, total: int) -> None:
        if total > limit:
            raise BodyRefused("too large")
        if self._in_flight + more > self._max_in_flight:
            raise BodyRefused("overloaded")
        self._in_flight += more

    def _watch(self) -> _Reading:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  requests are tasks
        reading = _Reading(task, loop.time() + self._seconds)
        self._readings.add(reading)
        if self._look is None:
            self._look = loop.call_later(self._seconds / 10, self._end_the_late)
        return reading

    def _end_the_late(self) -> None:
        self._look = None
        loop = asyncio.get_running_loop()
        for reading in self._readings:
            if reading.until <= loop.time() and not reading.is_late:
                reading.is_late = True
                reading.task.cancel()
        if self._readings:
            self._look = loop.call_later(self._seconds / 10, self._end_the_late)
