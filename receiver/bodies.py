"""Reading a request's body within limits that are enforced while it streams."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from receiver.errors import ReceiverError

BODY_SECONDS = 10.0

Receive = Callable[[], Awaitable[Any]]


class BodyRefused(ReceiverError):
    """Would not read this body; the text is one of the outcomes that routes answers."""


class ClientGone(ReceiverError):
    """Lost the sender before the body was complete: there is nobody to answer."""


class Bodies:
    """Reads bodies; counts the bytes of all that are being received or worked on together."""

    def __init__(self, max_in_flight: int, *, seconds: float = BODY_SECONDS) -> None:
        self._max_in_flight = max_in_flight
        self._seconds = seconds
        self._in_flight = 0

    async def read(self, receive: Receive, *, limit: int, declared: int | None) -> bytes:
        """The whole body, whose bytes count until `release`.

        Raises BodyRefused (`too large`, `timeout`, `overloaded`) or ClientGone; then nothing
        counts any more.
        """
        if declared is not None and declared > limit:
            raise BodyRefused("too large")
        message = await self._first(receive)
        body: bytes = message.get("body", b"")
        if not message.get("more_body", False):
            self._count(len(body), limit, len(body))
            return body
        return await self._rest(receive, body, limit)

    def release(self, body: bytes) -> None:
        """The body has been dealt with."""
        self._in_flight -= len(body)

    async def _first(self, receive: Receive) -> Any:
        try:
            async with asyncio.timeout(self._seconds):
                message = await receive()
        except TimeoutError:
            raise BodyRefused("timeout") from None
        if message["type"] == "http.disconnect":
            raise ClientGone
        return message

    async def _rest(self, receive: Receive, first: bytes, limit: int) -> bytes:
        chunks, size = [first], len(first)
        self._count(size, limit, size)
        try:
            async with asyncio.timeout(self._seconds):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGone
                    chunk = message.get("body", b"")
                    self._count(len(chunk), limit, size + len(chunk))
                    chunks.append(chunk)
                    size += len(chunk)
                    more = message.get("more_body", False)
        except TimeoutError:
            self._in_flight -= size
            raise BodyRefused("timeout") from None
        except (BodyRefused, ClientGone):
            self._in_flight -= size
            raise
        return b"".join(chunks)

    def _count(self, more: int, limit: int, total: int) -> None:
        if total > limit:
            raise BodyRefused("too large")
        if self._in_flight + more > self._max_in_flight:
            raise BodyRefused("overloaded")
        self._in_flight += more
