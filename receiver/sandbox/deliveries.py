"""Webhooks out: sent, tried again, doubled, delayed and forged, whoever the sender is.

Each parcel brings its own way to be signed; see `signing`.
"""

import asyncio
import time
from collections.abc import Coroutine, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import httpx

from receiver.sandbox.content import dice
from receiver.sandbox.loopback import is_loopback
from receiver.sandbox.signing import Signing
from receiver.sandbox.switches import Forgery, Panel, Switches

# Clients, and tries that each may have under way: a client slows down with the square of its
# requests waiting and connections open, so thousands of deliveries are spread and wait outside.
CLIENTS = 16
LINES = 4


@dataclass(frozen=True, slots=True)
class Parcel:
    """What is to be delivered: the body is fixed here, so that every try sends the same bytes.

    `signing` makes the headers, anew at each try, and those of forgeries. `tries` counts where
    the sender does not try as often as the switch of that name says.
    """

    kind: str
    resource: str
    url: str
    body: bytes
    signing: Signing
    tries: int | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of one delivery, as the log keeps it; no status means that no answer came."""

    delivery: int
    attempt: int
    forgery: Forgery | None
    kind: str
    resource: str
    url: str
    at: str
    status: int | None = None
    error: str | None = None
    seconds: float = 0.0


class Courier:
    """Delivers parcels in the background, as the switches say, and keeps a log of every try."""

    def __init__(self, panel: Panel) -> None:
        self._panel = panel
        verify = httpx.create_ssl_context(trust_env=False)
        self._clients = [httpx.AsyncClient(trust_env=False, verify=verify) for _ in range(CLIENTS)]
        self._lines: asyncio.Queue[httpx.AsyncClient] = asyncio.Queue()
        for client in self._clients * LINES:
            self._lines.put_nowait(client)
        self._under_way: set[asyncio.Task[None]] = set()
        self._gathered: list[Parcel] = []
        self._timer: asyncio.TimerHandle | None = None
        self._numbered = 0
        self.log: list[Attempt] = []

    @property
    def pending(self) -> int:
        """Parcels not yet brought to their end; 0 means that nothing more will be sent."""
        return len(self._under_way) + len(self._gathered)

    def send(self, parcel: Parcel) -> None:
        """Delivers a parcel, or gathers it with others to be sent in another order."""
        switches = self._panel.switches
        host = urlsplit(parcel.url).hostname
        if not is_loopback(host) and not switches.deliver_beyond_loopback:
            reason = f"not sent: {host} is not this machine (switch deliver_beyond_loopback)"
            self.log.append(replace(self._attempt(parcel, self._number()), error=reason))
            return
        self._gathered.append(parcel)
        if len(self._gathered) >= switches.reorder:
            self._send_gathered()
        elif self._timer is None:
            wait = switches.reorder_wait / switches.speed
            self._timer = asyncio.get_running_loop().call_later(wait, self._send_gathered)

    def _send_gathered(self) -> None:
        self._stop_gathering()
        parcels, self._gathered = self._gathered, []
        task = asyncio.get_running_loop().create_task(self._in_turn(parcels[::-1]))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    def _stop_gathering(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _in_turn(self, parcels: list[Parcel]) -> None:
        """Brings each to its end before the next, or the order would be left to chance."""
        for parcel in parcels:
            await asyncio.gather(*self._deliveries_of(parcel))

    def _deliveries_of(self, parcel: Parcel) -> Iterator[Coroutine[Any, Any, None]]:
        switches = self._panel.switches
        for number in range(switches.forgeries):
            kind = switches.forgery_kinds[number % len(switches.forgery_kinds)]
            yield self._deliver_forged(parcel, kind, self._number())
        for _ in range(switches.copies):
            yield self._deliver(parcel, self._number())

    def _number(self) -> int:
        self._numbered += 1
        return self._numbered

    async def _deliver(self, parcel: Parcel, number: int) -> None:
        await self._keep_back(number)
        signed = parcel.signing.headers(self._panel.switches, parcel.body)
        for attempt in count(1):
            status = await self._post(self._attempt(parcel, number, attempt), signed, parcel.body)
            switches = self._panel.switches
            if attempt >= (parcel.tries or switches.tries) or not _again(status, switches):
                return
            await asyncio.sleep(switches.first_retry_wait * 2 ** (attempt - 1) / switches.speed)
            if switches.resign:
                signed = parcel.signing.headers(switches, parcel.body)

    async def _keep_back(self, number: int) -> None:
        switches = self._panel.switches
        least, most = switches.delivery_delay
        if most > 0:
            delay = dice(switches.seed, "delay", number).uniform(least, most)
            await asyncio.sleep(delay / switches.speed)

    async def _deliver_forged(self, parcel: Parcel, kind: Forgery, number: int) -> None:
        if forged := parcel.signing.forge(kind, self._panel.switches, parcel.body):
            await self._post(self._attempt(parcel, number, forgery=kind), *forged)

    def _attempt(
        self, parcel: Parcel, delivery: int, attempt: int = 1, *, forgery: Forgery | None = None
    ) -> Attempt:
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        return Attempt(delivery, attempt, forgery, parcel.kind, parcel.resource, parcel.url, at)

    async def _post(self, attempt: Attempt, signed: dict[str, str], body: bytes) -> int | None:
        timeout = self._panel.switches.delivery_timeout
        status = error = None
        client = await self._lines.get()
        begun = time.monotonic()
        try:
            response = await client.post(attempt.url, content=body, headers=signed, timeout=timeout)
            status = response.status_code
        except httpx.HTTPError as failure:
            error = f"{type(failure).__name__}: {failure}".removesuffix(": ")
        finally:
            self._lines.put_nowait(client)
        seconds = round(time.monotonic() - begun, 4)
        self.log.append(replace(attempt, status=status, error=error, seconds=seconds))
        return status

    def entries(self) -> list[dict[str, Any]]:
        """The log as JSON."""
        return [asdict(attempt) for attempt in self.log]

    async def clear(self) -> None:
        """Drops what is under way, and the log."""
        self._stop_gathering()
        self._gathered.clear()
        under_way = list(self._under_way)
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        self.log.clear()

    async def close(self) -> None:
        """Drops what is under way and closes the connections."""
        await self.clear()
        for client in self._clients:
            await client.aclose()


def _again(status: int | None, switches: Switches) -> bool:
    """Whether an answer asks for another try: everything but 2xx, and 4xx as the switch says."""
    if status is not None and 400 <= status < 500:
        return switches.retry_client_errors
    return status is None or not 200 <= status < 300
