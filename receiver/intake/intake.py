"""Takes a delivery in: find the endpoint, verify the raw bytes, identify, commit, then answer.

Nothing is parsed, and nothing is read by what a body says, before the signature has proven the
body genuine (but for `lookup_by_body`, which a source must ask for). A refused request is kept,
off the path of the answer, in a bounded quarantine.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

from anyio import CapacityLimiter, to_thread

from receiver.errors import SignatureError
from receiver.intake.endpoint_cache import CachedEndpoint, EndpointCache, keys_for
from receiver.intake.group_commit import GroupCommit, settle
from receiver.intake.quarantine_writer import QuarantineWriter
from receiver.intake.signing_warnings import SigningWarnings
from receiver.intake.target import (
    ACCEPTED,
    DUPLICATE,
    NOT_FOUND,
    NOT_STORED,
    SECRET_PENDING,
    UNAUTHORIZED,
    Outcome,
    Target,
)
from receiver.intake.verification import Headers, Verified, kept_headers, verify_delivery
from receiver.signatures.verify import Match
from receiver.sources import Source
from receiver.telemetry.logs import get_logger, often
from receiver.telemetry.throttle import Throttle
from storage import CannotStore, UnverifiedDelivery, VerifiedDelivery

SECRET_MAY_BE_PENDING = timedelta(hours=24)
INLINE_BYTES = 256 * 1024
"""Larger bodies are verified in a thread, so that the others need not wait for them."""

THREADS = 4

log = get_logger("intake")
log_delivery = often(log, "intake", "delivery", "source", "event_key", "outcome", "ms")

Answer = Callable[[Outcome], None]


@dataclass(slots=True)
class _Arrival:
    """One request at its target; `now` in Unix time, `began` by the performance counter."""

    target: Target
    headers: Headers
    body: bytes
    now: float
    began: float


class Intake:
    """Takes deliveries in. `on_work` is called after every commit that made work."""

    def __init__(
        self,
        sources: Mapping[str, Source],
        endpoints: EndpointCache,
        group_commit: GroupCommit,
        quarantine_writer: QuarantineWriter,
        *,
        on_work: Callable[[], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._sources = sources
        self._endpoints = endpoints
        self._group_commit = group_commit
        self._quarantine_writer = quarantine_writer
        self._on_work = on_work
        self._clock = clock
        self._throttle = Throttle()
        self._signing_warnings = SigningWarnings()
        # of its own: the worker's threads may all wait for the disk
        self._threads = CapacityLimiter(THREADS)

    # --- finding -------------------------------------------------------------------------------

    def find(self, source_name: str, endpoint_id: str | None) -> Target | Outcome | None:
        """Return the target of a URL, or the refusal; None where the store must be read."""
        source = self._sources.get(source_name)
        if source is None:
            return NOT_FOUND
        if endpoint_id is None:
            knows_secrets = source.account_keys or source.settings.lookup_by_body
            return Target(source, None) if knows_secrets else NOT_FOUND
        endpoint = self._endpoints.cached(endpoint_id)
        return None if endpoint is None else self._at(source, endpoint)

    async def find_or_read(self, source_name: str, endpoint_id: str | None) -> Target | Outcome:
        """Return the target of a URL, or the refusal; reads the store where it must."""
        found = self.find(source_name, endpoint_id)
        if found is not None:
            return found
        assert endpoint_id is not None  # noqa: S101  only an endpoint may be unknown as yet
        try:
            endpoint = await self._endpoints.find(endpoint_id)
        except CannotStore as error:
            return self._unavailable(error, source_name)
        return NOT_FOUND if endpoint is None else self._at(self._sources[source_name], endpoint)

    def _at(self, source: Source, endpoint: CachedEndpoint) -> Target | Outcome:
        view = endpoint.view
        if view.source != source.name or view.state == "closed":
            return NOT_FOUND
        return Target(source, endpoint)

    # --- taking --------------------------------------------------------------------------------

    def take(self, target: Target, headers: Headers, body: bytes, answer: Answer) -> None:
        """Verify and store one delivery; `answer` is called once, now or after the COMMIT.

        For targets that need no look-up and bodies up to INLINE_BYTES: see `take_and_wait`.
        """
        arrival = _Arrival(target, headers, body, self._clock(), time.perf_counter())
        self._conclude(arrival, self._verify(arrival), answer)

    async def take_and_wait(self, target: Target, headers: Headers, body: bytes) -> Outcome:
        """Look up, verify and store any delivery; return the outcome after the COMMIT."""
        arrival = _Arrival(target, headers, body, self._clock(), time.perf_counter())
        try:
            if target.needs_look_up:
                arrival.target = await self._look_up(target, body)
        except CannotStore as error:
            return self._unavailable(error, target.source.name)
        if len(body) > INLINE_BYTES:
            verified = await to_thread.run_sync(self._verify, arrival, limiter=self._threads)
        else:
            verified = self._verify(arrival)
        answered: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._conclude(arrival, verified, partial(settle, answered))
        return await answered

    async def _look_up(self, target: Target, body: bytes) -> Target:
        """Return the target that the unverified body names: one bounded scan, one candidate."""
        identify = target.source.provider.identify
        unverified = await to_thread.run_sync(identify, body, limiter=self._threads)
        found = None
        if unverified is not None:
            found = await self._endpoints.find_by_resource(target.source.name, unverified.resource)
        return Target(target.source, found)

    def _verify(self, arrival: _Arrival) -> Verified | SignatureError | Outcome:
        """Return the verified delivery, or why there is none; may run in a thread: pure."""
        source, endpoint, now = arrival.target.source, arrival.target.endpoint, arrival.now
        if arrival.target.is_pending:
            return _pending(arrival)
        view = endpoint.view if endpoint else None
        keys = keys_for(source, endpoint, now)
        try:
            return verify_delivery(source, view, keys, arrival.headers, arrival.body, now=now)
        except SignatureError as refusal:
            return refusal

    def _conclude(
        self, arrival: _Arrival, verified: Verified | SignatureError | Outcome, answer: Answer
    ) -> None:
        """Submit a verified delivery to the group commit; answer everything else now."""
        if isinstance(verified, Verified):
            self._remember(arrival.target, verified.match)
            self._submit(verified.delivery, arrival.began, answer)
        elif isinstance(verified, SignatureError):
            answer(self._refuse(arrival, verified))
        else:
            self._warn(arrival.target, "secret pending")
            answer(verified)

    def _submit(self, delivery: VerifiedDelivery, began: float, answer: Answer) -> None:
        """Have a delivery committed, then answer, wake the worker, and log it."""

        def on_result(result: str | CannotStore) -> None:
            if isinstance(result, CannotStore):
                answer(self._unavailable(result, delivery.source))
                return
            answer(ACCEPTED if result == "accepted" else DUPLICATE)
            if result == "accepted":
                self._on_work()
            log_delivery(
                delivery.source,
                delivery.key,
                result if delivery.reason is None else "unusable",
                round((time.perf_counter() - began) * 1000, 2),
            )

        try:
            self._group_commit.submit(delivery, on_result)
        except CannotStore as error:
            answer(self._unavailable(error, delivery.source))

    def _remember(self, target: Target, match: Match) -> None:
        self._signing_warnings.notice(target.source, target.endpoint, match)
        if target.endpoint is None:
            return
        secret = self._endpoints.remember(target.endpoint, match.key)
        if secret is not None and secret.reading is not None:
            self._quarantine_writer.remember(secret.id, secret.reading)

    # --- refusing ------------------------------------------------------------------------------

    def _refuse(self, arrival: _Arrival, refusal: SignatureError) -> Outcome:
        target = arrival.target
        self._warn(target, refusal.reason)
        self._quarantine_writer.offer(
            UnverifiedDelivery(
                source=target.source.name,
                endpoint_id=target.endpoint_id,
                reason=refusal.reason,
                detail=str(refusal),
                headers=kept_headers(arrival.headers, target.source),
                body=arrival.body,
                received_at=datetime.fromtimestamp(arrival.now, UTC),
            )
        )
        return UNAUTHORIZED

    def _warn(self, target: Target, reason: str) -> None:
        name = target.source.name
        self._throttle.log(
            log.warning,
            f"{name} {reason}",
            "delivery refused",
            source=name,
            endpoint=target.endpoint_id,
            reason=reason,
        )

    def _unavailable(self, error: CannotStore, source: str) -> Outcome:
        self._throttle.log(
            log.error, "cannot store", "cannot store deliveries", source=source, error=str(error)
        )
        return NOT_STORED


def _pending(arrival: _Arrival) -> SignatureError | Outcome:
    """Return SECRET_PENDING for a day, in which the create call may bring it; then a refusal."""
    assert arrival.target.endpoint is not None  # noqa: S101  only endpoints can be pending
    age = datetime.fromtimestamp(arrival.now, UTC) - arrival.target.endpoint.view.created_at
    if age < SECRET_MAY_BE_PENDING:
        return SECRET_PENDING
    return SignatureError("missing", "no secret was registered for this endpoint in a day")
