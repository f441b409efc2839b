"""Taking in: find the endpoint, verify the raw bytes, identify, commit, then answer.

Nothing is parsed, and nothing is read by what a body says, before the signature has proven the
body genuine (but for `lookup_by_body`, which a source must ask for). What is refused is kept, off
the path of the answer, in a bounded quarantine.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from anyio import CapacityLimiter, to_thread

from receiver.errors import SignatureError
from receiver.intake.endpoint_cache import CachedEndpoint, EndpointCache, keys_for
from receiver.intake.group_commit import GroupCommit
from receiver.intake.quarantine_writer import QuarantineWriter
from receiver.intake.signing_warnings import SigningWarnings
from receiver.intake.verification import Headers, kept_headers, prove
from receiver.signatures.verify import Match
from receiver.sources import Source
from receiver.telemetry.logs import get_logger, often
from receiver.telemetry.throttle import Throttle
from storage import CannotStore, UnverifiedDelivery, VerifiedDelivery

SECRET_MAY_BE_PENDING = timedelta(hours=24)
INLINE_BYTES = 256 * 1024
"""Larger bodies are verified and read in a thread, so that the others need not wait for them."""

THREADS = 4

log = get_logger("intake")
delivered = often(log, "intake", "delivery", "source", "event_key", "outcome", "ms")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the sender is answered: one of the outcomes below, and seconds for Retry-After."""

    outcome: str
    retry_after: int | None = None


ACCEPTED = Outcome("accepted")
DUPLICATE = Outcome("duplicate")
NOT_FOUND = Outcome("not found")
UNAUTHORIZED = Outcome("unauthorized")
NOT_STORED = Outcome("unavailable", retry_after=5)
SECRET_PENDING = Outcome("unavailable", retry_after=30)


@dataclass(slots=True)
class Target:
    """Where a delivery knocks: a source, and its endpoint unless it is the account's own URL."""

    source: Source
    endpoint: CachedEndpoint | None

    @property
    def endpoint_id(self) -> str | None:
        """The endpoint's id, None for the account's own URL."""
        return self.endpoint.view.id if self.endpoint else None

    @property
    def is_looked_up(self) -> bool:
        """Whether the endpoint is still to be found, by what the body says."""
        return self.endpoint is None and self.source.settings.lookup_by_body

    @property
    def is_pending(self) -> bool:
        """Whether no secret is here yet that could prove anything."""
        if self.endpoint is None or self.endpoint.view.state != "pending":
            return False
        return not self.source.account_keys


class Intake:
    """Takes deliveries in. `woken` is called after every commit that made work."""

    def __init__(
        self,
        sources: Mapping[str, Source],
        endpoints: EndpointCache,
        commits: GroupCommit,
        quarantine_writer: QuarantineWriter,
        *,
        woken: Callable[[], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._sources = sources
        self._endpoints = endpoints
        self._commits = commits
        self._quarantine_writer = quarantine_writer
        self._woken = woken
        self._clock = clock
        self._warnings = Throttle()
        self._signing_warnings = SigningWarnings()
        # of its own: the worker's threads may all wait for the disk
        self._threads = CapacityLimiter(THREADS)

    async def find(self, source_name: str, endpoint_id: str | None) -> Target | Outcome:
        """The door for a URL, or what to answer instead; before any byte of the body is read."""
        found = self.find_at_once(source_name, endpoint_id)
        if found is not None:
            return found
        assert endpoint_id is not None  # noqa: S101  only an endpoint may be unknown as yet
        try:
            endpoint = await self._endpoints.find(endpoint_id)
        except CannotStore as error:
            return self._unavailable(error, source_name)
        return NOT_FOUND if endpoint is None else self._door(source_name, endpoint)

    def find_at_once(self, source_name: str, endpoint_id: str | None) -> Target | Outcome | None:
        """The same from memory; None where the store must be asked."""
        source = self._sources.get(source_name)
        if source is None:
            return NOT_FOUND
        if endpoint_id is None:
            knows_secrets = source.account_keys or source.settings.lookup_by_body
            return Target(source, None) if knows_secrets else NOT_FOUND
        endpoint = self._endpoints.cached(endpoint_id)
        return None if endpoint is None else self._door(source_name, endpoint)

    def _door(self, source_name: str, endpoint: CachedEndpoint) -> Target | Outcome:
        view = endpoint.view
        if view.source != source_name or view.state == "closed":
            return NOT_FOUND
        return Target(self._sources[source_name], endpoint)

    async def take(self, door: Target, headers: Headers, body: bytes) -> Outcome:
        """Verify and store one delivery; the reply is true once this returns."""
        began = time.perf_counter()
        now = self._clock()
        try:
            if door.is_pending:
                return self._pending(door, headers, body, now)
            if door.is_looked_up:
                door = await self._look_up(door, body)
            if len(body) > INLINE_BYTES:
                proven = await to_thread.run_sync(
                    self._verified, door, headers, body, now, limiter=self._threads
                )
            else:
                proven = self._verified(door, headers, body, now)
            match, delivery = proven
            self._remember(door, match)
            outcome = await self._commits.commit(delivery)
        except SignatureError as refusal:
            return self._refuse(door, headers, body, refusal, now)
        except CannotStore as error:
            return self._unavailable(error, door.source.name)
        self._tell(delivery, outcome, began)
        return ACCEPTED if outcome == "accepted" else DUPLICATE

    def take_at_once(
        self, door: Target, headers: Headers, body: bytes, answer: Callable[[Outcome], None]
    ) -> None:
        """The same without a task that waits: `answer` is called once, now or after the commit.

        For doors that need no look-up and bodies up to INLINE_BYTES.
        """
        began = time.perf_counter()
        now = self._clock()

        def told(outcome: str | CannotStore) -> None:
            if isinstance(outcome, CannotStore):
                answer(self._unavailable(outcome, door.source.name))
                return
            answer(ACCEPTED if outcome == "accepted" else DUPLICATE)
            self._tell(delivery, outcome, began)

        try:
            if door.is_pending:
                answer(self._pending(door, headers, body, now))
                return
            match, delivery = self._verified(door, headers, body, now)
            self._remember(door, match)
            self._commits.hand_in(delivery, told)
        except SignatureError as refusal:
            answer(self._refuse(door, headers, body, refusal, now))
        except CannotStore as error:
            answer(self._unavailable(error, door.source.name))

    def _tell(self, delivery: VerifiedDelivery, outcome: str, began: float) -> None:
        """Tell the worker, and the log, of what was stored."""
        if outcome == "accepted":
            self._woken()
        delivered(
            delivery.source,
            delivery.key,
            outcome if delivery.reason is None else "unusable",
            round((time.perf_counter() - began) * 1000, 2),
        )

    # --- verifying -----------------------------------------------------------------------------

    def _verified(
        self, door: Target, headers: Headers, body: bytes, now: float
    ) -> tuple[Match, VerifiedDelivery]:
        """The delivery, proven genuine; may run in a thread, so nothing is changed here."""
        view = door.endpoint.view if door.endpoint else None
        keys = keys_for(door.source, door.endpoint, now)
        return prove(door.source, view, keys, headers, body, now=now)

    async def _look_up(self, door: Target, body: bytes) -> Target:
        """One bounded scan of the unverified body, one candidate: what it names proves nothing."""
        identify = door.source.provider.identify
        unverified = await to_thread.run_sync(identify, body, limiter=self._threads)
        if unverified is None:
            return door
        found = await self._endpoints.find_by_resource(door.source.name, unverified.resource)
        return Target(door.source, found)

    def _remember(self, door: Target, match: Match) -> None:
        self._signing_warnings.notice(door.source, door.endpoint, match)
        if door.endpoint is None:
            return
        secret = self._endpoints.remember(door.endpoint, match.key)
        if secret is not None and secret.reading is not None:
            self._quarantine_writer.remember(secret.id, secret.reading)

    # --- refusing ------------------------------------------------------------------------------

    def _pending(self, door: Target, headers: Headers, body: bytes, now: float) -> Outcome:
        """The secret may still be on its way from the create call; a day later it is not."""
        assert door.endpoint is not None  # noqa: S101  only endpoints can be pending
        age = datetime.fromtimestamp(now, UTC) - door.endpoint.view.created_at
        if age < SECRET_MAY_BE_PENDING:
            self._complain(door, "secret pending")
            return SECRET_PENDING
        refusal = SignatureError("missing", "no secret was registered for this endpoint in a day")
        return self._refuse(door, headers, body, refusal, now)

    def _refuse(
        self, door: Target, headers: Headers, body: bytes, refusal: SignatureError, now: float
    ) -> Outcome:
        self._complain(door, refusal.reason)
        self._quarantine_writer.offer(
            UnverifiedDelivery(
                source=door.source.name,
                endpoint_id=door.endpoint_id,
                reason=refusal.reason,
                detail=str(refusal),
                headers=kept_headers(headers, door.source),
                body=body,
                received_at=datetime.fromtimestamp(now, UTC),
            )
        )
        return UNAUTHORIZED

    def _complain(self, door: Target, reason: str) -> None:
        name = door.source.name
        self._warnings.log(
            log.warning,
            f"{name} {reason}",
            "delivery refused",
            source=name,
            endpoint=door.endpoint_id,
            reason=reason,
        )

    def _unavailable(self, error: CannotStore, source: str) -> Outcome:
        self._warnings.log(
            log.error, "cannot store", "cannot store deliveries", source=source, error=str(error)
        )
        return NOT_STORED


class Elsewhere(Intake):
    """The intake of a process that takes nothing in: senders are to try again, and be led right."""

    def __init__(self) -> None:
        """Nothing is needed to refuse."""

    def find_at_once(self, source_name: str, endpoint_id: str | None) -> Target | Outcome | None:
        """See Intake."""
        del source_name, endpoint_id
        return NOT_STORED
