"""Deliveries of webhooks: sent, retried, copied, delayed, reordered and forged."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import httpx

from receiver.sandbox.addresses import is_loopback
from receiver.sandbox.clock import PlannedCall
from receiver.sandbox.content import dice
from receiver.sandbox.deliveries.weather import fate
from receiver.sandbox.senders import Parcel, SignedRequest
from receiver.sandbox.switches import Forgery, Panel, Switches

# A client slows down with the square of its waiting requests and open connections. Thousands of
# deliveries are therefore spread over clients, and wait for one of these lines.
CLIENTS = 16
LINES = 4


@dataclass(frozen=True, slots=True)
class SentDelivery:
    """One delivery of a parcel: genuine, or forged in one way; numbered in order of sending.

    `late` is how many seconds it is held back beside the delay that all have.
    """

    number: int
    parcel: Parcel
    forgery: Forgery | None = None
    late: float = 0.0


@dataclass(frozen=True, slots=True)
class DeliveryAttempt:
    """One try of one delivery, as the log keeps it; without a status, no answer came."""

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
    """Delivers parcels in the background as the switches say, and logs every try."""

    def __init__(self, panel: Panel) -> None:
        self._panel = panel
        verify = httpx.create_ssl_context(trust_env=False)
        self._clients = [httpx.AsyncClient(trust_env=False, verify=verify) for _ in range(CLIENTS)]
        self._lines: asyncio.Queue[httpx.AsyncClient] = asyncio.Queue()
        for client in self._clients * LINES:
            self._lines.put_nowait(client)
        self._under_way: set[asyncio.Task[None]] = set()
        self._gathered: list[Parcel] = []
        self._timer: PlannedCall | None = None
        self._numbered = 0
        self._parcels = 0
        self.log: list[DeliveryAttempt] = []

    @property
    def pending(self) -> int:
        """Number of parcels under way or gathered; at 0 nothing more will be sent."""
        return len(self._under_way) + len(self._gathered)

    def send(self, parcel: Parcel) -> None:
        """Deliver a parcel, or gather it with others that are sent in another order."""
        switches = self._panel.switches
        host = urlsplit(parcel.url).hostname
        if not is_loopback(host) and not switches.deliver_beyond_loopback:
            reason = f"not sent: {host} is not this machine (switch deliver_beyond_loopback)"
            unsent = self._attempt(SentDelivery(self._number(), parcel))
            self.log.append(replace(unsent, error=reason))
            return
        self._gathered.append(parcel)
        if len(self._gathered) >= switches.reorder:
            self._send_gathered()
        elif self._timer is None:
            wait = switches.reorder_wait / switches.speed
            self._timer = self._panel.clock.call_after(wait, self._send_gathered)

    def _send_gathered(self) -> None:
        self._stop_gathering()
        parcels, self._gathered = self._gathered[::-1], []
        # Numbered here: a number decides the delay of its delivery, whichever ends first.
        groups = [list(self._deliveries_of(parcel)) for parcel in parcels]
        task = asyncio.get_running_loop().create_task(self._in_turn(groups))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    def _stop_gathering(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _in_turn(self, groups: list[list[SentDelivery]]) -> None:
        """Finish each parcel before the next begins, so that they arrive in this order."""
        for deliveries in groups:
            await asyncio.gather(*(self._deliver(each) for each in deliveries))

    def _deliveries_of(self, parcel: Parcel) -> Iterator[SentDelivery]:
        switches = self._panel.switches
        for number in range(switches.forgeries):
            kind = switches.forgery_kinds[number % len(switches.forgery_kinds)]
            yield SentDelivery(self._number(), parcel, kind)
        self._parcels += 1
        its = fate(switches, self._parcels)
        for _ in range(switches.copies * its.copies):
            yield SentDelivery(self._number(), parcel, late=its.late)

    def _number(self) -> int:
        self._numbered += 1
        return self._numbered

    async def _deliver(self, delivery: SentDelivery) -> None:
        if delivery.forgery is None:
            await self._deliver_genuine(delivery)
        else:
            await self._deliver_forged(delivery, delivery.forgery)

    async def _deliver_genuine(self, delivery: SentDelivery) -> None:
        parcel, clock = delivery.parcel, self._panel.clock
        await self._delay(delivery)
        request = self._signed(parcel)
        for attempt in count(1):
            status = await self._post(self._attempt(delivery, attempt), request)
            switches = self._panel.switches
            if attempt >= (parcel.tries or switches.tries) or not _is_retried(status, switches):
                return
            await clock.sleep(switches.first_retry_wait * 2 ** (attempt - 1) / switches.speed)
            if switches.resign:
                request = self._signed(parcel)

    def _signed(self, parcel: Parcel) -> SignedRequest:
        at = self._panel.signing_time()
        switches = self._panel.switches
        if switches.missigned:
            forged = parcel.signing.forge("wrong_key", switches, parcel.body, at=at)
            if forged is not None:
                return forged
        return SignedRequest(parcel.signing.headers(switches, parcel.body, at=at), parcel.body)

    async def _delay(self, delivery: SentDelivery) -> None:
        switches, delay = self._panel.switches, delivery.late
        least, most = switches.delivery_delay
        if most > 0:
            delay += dice(switches.seed, "delay", delivery.number).uniform(least, most)
        if delay > 0:
            await self._panel.clock.sleep(delay / switches.speed)

    async def _deliver_forged(self, delivery: SentDelivery, kind: Forgery) -> None:
        parcel, at = delivery.parcel, self._panel.signing_time()
        if forged := parcel.signing.forge(kind, self._panel.switches, parcel.body, at=at):
            await self._post(self._attempt(delivery), forged)

    def _attempt(self, delivery: SentDelivery, attempt: int = 1) -> DeliveryAttempt:
        parcel = delivery.parcel
        at = self._panel.clock.now().isoformat(timespec="milliseconds")
        return DeliveryAttempt(
            delivery.number,
            attempt,
            delivery.forgery,
            parcel.kind,
            parcel.resource,
            parcel.url,
            at,
        )

    async def _post(self, attempt: DeliveryAttempt, request: SignedRequest) -> int | None:
        timeout = self._panel.switches.delivery_timeout
        status = error = None
        client = await self._lines.get()
        begun = time.monotonic()
        try:
            response = await client.post(
                attempt.url, content=request.body, headers=request.headers, timeout=timeout
            )
            status = response.status_code
        except httpx.HTTPError as failure:
            error = f"{type(failure).__name__}: {failure}".removesuffix(": ")
        finally:
            self._lines.put_nowait(client)
        seconds = round(time.monotonic() - begun, 4)
        self.log.append(replace(attempt, status=status, error=error, seconds=seconds))
        return status

    def entries(self) -> list[dict[str, Any]]:
        """Return the log as JSON, ordered by delivery and attempt."""
        ordered = sorted(self.log, key=lambda attempt: (attempt.delivery, attempt.attempt))
        return [asdict(attempt) for attempt in ordered]

    async def clear(self) -> None:
        """Stop what is under way, and forget the log."""
        self._stop_gathering()
        self._gathered.clear()
        under_way = list(self._under_way)
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        self.log.clear()
        self._numbered = self._parcels = 0

    async def close(self) -> None:
        """Stop what is under way, and close the connections."""
        await self.clear()
        for client in self._clients:
            await client.aclose()


def _is_retried(status: int | None, switches: Switches) -> bool:
    """Return True for everything but a 2xx; the switches decide about a 4xx."""
    if status is not None and 400 <= status < 500:
        return switches.retry_client_errors
    return status is None or not 200 <= status < 300
