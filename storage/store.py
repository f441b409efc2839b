"""The Store: one method for each verb, each written in the file of the noun that owns it.

Here only transactions are opened and nouns are put together. Methods block; those that write
return after the COMMIT and raise CannotStore (nothing was written) when there could be none.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Any

from sqlalchemy import Connection, select
from sqlmodel import col

from storage import batches, deliveries, endpoints, export, jobs, pauses, quarantine, results
from storage.batches import Ledger
from storage.database import Database, insert, now
from storage.deliveries import VerifiedDelivery
from storage.encryption import CANARY, Vault
from storage.endpoints import EndpointView
from storage.errors import CannotStore, WrongKey
from storage.fetched import FetchedBatch, FetchedRun, SubmittedRun
from storage.files import is_served
from storage.jobs import Lease, Tried
from storage.models import Meta, SourceState
from storage.quarantine import UnverifiedDelivery
from storage.results import Stored

FIRST_CHECK = timedelta(minutes=10)
"""How long an endpoint may stay silent before we look for ourselves."""


class Store:
    """The durable truth. Made by `storage.open`; safe to use from many threads."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self.database = database
        self.vault = vault
        with database.read() as connection:
            is_checked = self._knows_key(connection)
        if not is_checked:
            database.write(self._check_key)

    def close(self) -> None:
        """Finish queued writes and let go of the file."""
        self.database.close()

    @property
    def path(self) -> Path:
        """The database's file."""
        return self.database.path

    def is_served(self) -> bool:
        """Whether some process serves this database now."""
        return is_served(self.database.path)

    def _knows_key(self, connection: Connection) -> bool:
        """Whether there is a canary; raises WrongKey where our key does not open it."""
        canary = connection.execute(
            select(col(Meta.value)).where(col(Meta.key) == "canary")
        ).scalar()
        if canary is not None and self.vault.decrypt(canary.encode()) != CANARY:
            raise WrongKey("The canary of this database is not ours: restore it from a backup.")
        return canary is not None

    def _check_key(self, connection: Connection) -> None:
        """Leave a canary in a new database; another process may just have been quicker."""
        if not self._knows_key(connection):
            value = self.vault.encrypt(CANARY).decode()
            connection.execute(insert(Meta).values(key="canary", value=value))

    # --- deliveries ----------------------------------------------------------------------------

    def record_deliveries(
        self,
        group: Sequence[VerifiedDelivery],
        done: Callable[[list[str | Exception] | None, BaseException | None], None],
    ) -> None:
        """Store a group in one transaction, before all other work; returns at once.

        After the COMMIT `done(outcomes, None)` is called on the writer's thread: `accepted`,
        `duplicate`, or the error of that row alone. When nothing was stored: `done(None, error)`.
        """
        moment = now()

        def singly(outcomes: list[str | Exception] | None, error: BaseException | None) -> None:
            if not isinstance(error, deliveries.ROW_ERRORS):
                done(outcomes, error)
                return
            try:
                self.database.submit(
                    lambda c: deliveries.record_singly(c, group, now=moment), done, urgent=True
                )
            except CannotStore as ended:
                done(None, ended)

        self.database.submit(lambda c: deliveries.record(c, group, now=moment), singly, urgent=True)

    def quarantine(self, refused: UnverifiedDelivery) -> None:
        """Keep a refused request within the quarantine's bounds."""
        self.database.write(lambda c: quarantine.keep(c, refused, now=now()))

    def list_rejected(self, *, limit: int = 100) -> list[dict[str, Any]]:
        """The newest refused requests, without their bodies."""
        with self.database.read() as connection:
            return quarantine.list_all(connection, limit=limit)

    def list_events(self, *, source: str | None = None, limit: int = 100) -> list[dict[str, Any]]:
        """The newest events, each with the number of its deliveries and the states of its jobs."""
        with self.database.read() as connection:
            return deliveries.list_events(connection, source=source, limit=limit)

    def show_event(self, event_id: int) -> dict[str, Any]:
        """One event with deliveries, jobs and attempts; raises NotFound."""
        with self.database.read() as connection:
            return deliveries.show_event(connection, event_id)

    def carried_body(self, event_id: int) -> bytes | None:
        """What the newest delivery of an event carried, if it is still kept."""
        with self.database.read() as connection:
            return deliveries.carried_body(connection, event_id)

    def probe(self) -> None:
        """Really write something, always the same row; raises CannotStore."""
        self.database.write(
            lambda c: c.execute(
                insert(Meta)
                .values(key="probe", value="1")
                .on_conflict_do_update(index_elements=["key"], set_={"value": str(now())})
            )
        )

    # --- endpoints -----------------------------------------------------------------------------

    def add_endpoint(self, source: str, kind: str, *, resource: str | None = None) -> str:
        """Make an endpoint whose secret is pending, with its check job; returns its id."""

        def work(connection: Connection) -> str:
            moment = now()
            endpoint_id = endpoints.add(
                connection, source=source, kind=kind, resource=resource, now=moment
            )
            if kind == "batch" and resource is not None:
                batches.register(
                    connection,
                    source=source,
                    batch_id=resource,
                    endpoint_id=endpoint_id,
                    now=moment,
                )
            if kind != "account":
                _enqueue_check(connection, source, kind, resource, endpoint_id, moment)
            return endpoint_id

        return self.database.write(work)

    def set_secret(self, endpoint_id: str, text: str, *, resource: str | None = None) -> None:
        """Register a signing secret, and what the endpoint is for; raises NotFound."""

        def work(connection: Connection) -> None:
            moment = now()
            endpoints.set_secret(connection, self.vault, endpoint_id, text, now=moment)
            if resource is not None:
                self._bind(connection, endpoint_id, resource, moment)

        self.database.write(work)

    def bind_endpoint(self, endpoint_id: str, resource: str) -> None:
        """Say which resource an endpoint is for; raises NotFound where it is bound otherwise."""
        self.database.write(lambda c: self._bind(c, endpoint_id, resource, now()))

    def _bind(
        self, connection: Connection, endpoint_id: str, resource: str, moment: datetime
    ) -> None:
        endpoints.bind(connection, endpoint_id, resource)
        jobs.learn_subject(connection, endpoint_id, resource)
        view = endpoints.find(connection, self.vault, endpoint_id)
        if view is not None and view.kind == "batch":
            batches.register(
                connection,
                source=view.source,
                batch_id=resource,
                endpoint_id=endpoint_id,
                now=moment,
            )

    def close_endpoint(self, endpoint_id: str) -> None:
        """Answer 404 at this endpoint from now on; raises NotFound."""
        self.database.write(lambda c: endpoints.close(c, endpoint_id, now=now()))

    def remember_reading(self, secret_id: int, reading: str) -> None:
        """Note which key reading of a secret verified a delivery."""
        self.database.write(lambda c: endpoints.remember_reading(c, secret_id, reading))

    def find_endpoint(self, endpoint_id: str) -> EndpointView | None:
        """An endpoint with its decrypted secrets, or None."""
        with self.database.read() as connection:
            return endpoints.find(connection, self.vault, endpoint_id)

    def find_endpoint_of(self, source: str, resource: str) -> EndpointView | None:
        """The open endpoint that expects `resource`, or None."""
        with self.database.read() as connection:
            return endpoints.find_by_resource(connection, self.vault, source, resource)

    def list_endpoints(self, *, source: str | None = None) -> list[dict[str, Any]]:
        """All endpoints, newest first, without secrets."""
        with self.database.read() as connection:
            return endpoints.list_all(connection, source=source)

    def endpoints_revision(self) -> int:
        """A number that changes whenever an endpoint or a secret does."""
        with self.database.read() as connection:
            return endpoints.revision(connection)

    # --- batches -------------------------------------------------------------------------------

    def register_batch(
        self,
        source: str,
        batch_id: str,
        *,
        endpoint_id: str,
        secret: str | None,
        name: str | None = None,
        runner: str | None = None,
    ) -> None:
        """Bind an endpoint to the batch that was just created, with its secret: one commit."""

        def work(connection: Connection) -> None:
            moment = now()
            endpoints.bind(connection, endpoint_id, batch_id)
            jobs.learn_subject(connection, endpoint_id, batch_id)
            if secret is not None:
                endpoints.set_secret(connection, self.vault, endpoint_id, secret, now=moment)
            batches.register(
                connection,
                source=source,
                batch_id=batch_id,
                endpoint_id=endpoint_id,
                name=name,
                runner=runner,
                now=moment,
            )

        self.database.write(work)

    def add_runs(
        self, source: str, batch_id: str, runs: Sequence[SubmittedRun], *, unlisted: int = 0
    ) -> None:
        """Expect runs that the sender accepted, and `unlisted` more whose ids it did not tell.

        The batch is watched again if it had ended, unless all that was added has ended too.
        """

        def work(connection: Connection) -> None:
            batches.add_runs(connection, source, batch_id, runs, unlisted=unlisted)
            found = batches.ledger(connection, source, batch_id)
            if found.state == "open" and found.endpoint_id is not None:
                _enqueue_check(connection, source, "batch", batch_id, found.endpoint_id, now())

        self.database.write(work)

    def note_batch(self, source: str, batch: FetchedBatch) -> Ledger:
        """Keep what a status call said of a batch, outside of any job.

        A batch that has grown since its end is watched again.
        """

        def work(connection: Connection) -> Ledger:
            moment = now()
            found = batches.save(connection, source, batch, announced=False, now=moment)
            if found.state == "open" and found.endpoint_id is not None:
                _enqueue_check(
                    connection, source, "batch", batch.batch_id, found.endpoint_id, moment
                )
            return found

        return self.database.write(work)

    def ledger(self, batch_id: str, *, source: str | None = None) -> Ledger:
        """The ledger of a batch; raises NotFound."""
        with self.database.read() as connection:
            return batches.find(connection, batch_id, source=source)

    def list_batches(self, *, source: str | None = None, limit: int = 100) -> list[Ledger]:
        """The newest batches, newest first."""
        with self.database.read() as connection:
            return batches.list_all(connection, source=source, limit=limit)

    def unstored_runs(self, source: str, batch_id: str) -> list[dict[str, Any]]:
        """The runs of a batch without a result, each with the sender's last word on it."""
        with self.database.read() as connection:
            return batches.unstored(connection, source, batch_id)

    @contextmanager
    def watch(self) -> Iterator[Callable[[], int]]:
        """Yield a cheap number that changes when another connection has committed."""
        with self.database.watch() as version:
            yield version

    # --- jobs ----------------------------------------------------------------------------------

    def claim_jobs(self, source: str, *, limit: int) -> list[Lease]:
        """Take due jobs, as many as there are free slots; one only where the source is paused."""

        def work(connection: Connection) -> list[Lease]:
            moment = now()
            state = connection.execute(
                select(SourceState).where(col(SourceState.source) == source)
            ).one_or_none()
            if state is None:
                return jobs.claim(connection, source, limit=limit, now=moment)
            if state.probe_at > moment:
                return []
            probes = jobs.claim(connection, source, limit=1, now=moment)
            if probes:
                pauses.await_probe(connection, source, now=moment)
            return probes

        return self.database.write(work)

    def renew(self, leases: Sequence[Lease]) -> None:
        """Prolong the leases that are still ours."""
        self.database.write(lambda c: jobs.renew(c, leases, now=now()))

    def finish(self, lease: Lease, tried: Tried) -> None:
        """End a job well; its source is no longer paused. Raises LeaseLost."""

        def work(connection: Connection) -> None:
            jobs.finish(connection, lease, tried)
            pauses.resume(connection, lease.source)
            self._watch_again(connection, lease)

        self.database.write(work)

    def _watch_again(self, connection: Connection, lease: Lease) -> None:
        """A batch that grew between the end of its check and this has nobody who looks again."""
        if lease.kind != "check" or lease.subject_kind != "batch" or lease.endpoint_id is None:
            return
        for ledger in batches.of_endpoint(connection, lease.endpoint_id):
            if ledger.state == "open":
                _enqueue_check(
                    connection,
                    lease.source,
                    "batch",
                    ledger.batch_id,
                    lease.endpoint_id,
                    now(),
                )

    def reschedule(
        self, lease: Lease, tried: Tried, *, after: float, failed: bool, answered: bool
    ) -> None:
        """Ask again in `after` seconds; raises LeaseLost.

        `answered` says that the sender spoke with us, so that a paused source may go on.
        """

        def work(connection: Connection) -> None:
            jobs.reschedule(connection, lease, tried, after=after, failed=failed, answered=answered)
            if answered:
                pauses.resume(connection, lease.source)

        self.database.write(work)

    def pause_source(self, lease: Lease, tried: Tried, *, after: float) -> None:
        """Put the job back uncounted, and stop asking its source but for one probe a while."""

        def work(connection: Connection) -> None:
            jobs.put_back(connection, lease, tried)
            reason = tried.detail or "refused"
            pauses.pause(connection, lease.source, reason, after=after, now=now())

        self.database.write(work)

    def probe_sources_now(self) -> None:
        """Let every paused source be probed at once: an operator has just started us."""
        self.database.write(lambda c: pauses.probe_now(c, now=now()))

    def bury(self, lease: Lease, tried: Tried) -> None:
        """End a job as a dead letter; raises LeaseLost."""
        self.database.write(lambda c: jobs.bury(c, lease, tried))

    def give_back(self, leases: Sequence[Lease]) -> None:
        """Return claimed jobs untried."""
        self.database.write(lambda c: jobs.give_back(c, leases, now=now()))

    def release_expired(self, *, all_of_them: bool = False) -> int:
        """Return the jobs whose worker is gone; returns how many."""
        return self.database.write(lambda c: jobs.release(c, now=now(), all_of_them=all_of_them))

    def list_dead(self, *, limit: int = 100) -> list[dict[str, Any]]:
        """The dead letters, newest first."""
        with self.database.read() as connection:
            return deliveries.list_dead(connection, limit=limit)

    def dead_of(self, source: str, batch_id: str) -> list[dict[str, Any]]:
        """The dead letters that keep results of a batch away, newest first."""
        with self.database.read() as connection:
            return deliveries.dead_of(connection, source, batch_id)

    def last_attempt_of(self, source: str, batch_id: str) -> dict[str, Any] | None:
        """The newest try at a batch or one of its runs, with its outcome; None without any."""
        with self.database.read() as connection:
            return deliveries.last_attempt_of(connection, source, batch_id)

    def replay(self, job_id: int) -> None:
        """Work a dead letter again from our store; raises NotFound."""
        self.database.write(lambda c: jobs.replay(c, job_id, now=now()))

    def paused_sources(self) -> list[dict[str, Any]]:
        """The sources that are paused, since when and why."""
        with self.database.read() as connection:
            return [dict(row._mapping) for row in connection.execute(select(SourceState))]

    # --- results -------------------------------------------------------------------------------

    def save_batch(self, lease: Lease, batch: FetchedBatch) -> Ledger:
        """Keep what a status call said, fenced by the lease; raises LeaseLost."""

        def work(connection: Connection) -> Ledger:
            jobs.save_progress(connection, lease, lease.progress)
            return batches.save(
                connection,
                lease.source,
                batch,
                announced=lease.event_id is not None,
                now=now(),
            )

        return self.database.write(work)

    def store_results(
        self,
        lease: Lease,
        runs: Sequence[FetchedRun],
        *,
        fetched_at: datetime,
        progress: dict[str, Any],
        origin: str = "api",
    ) -> Stored:
        """Store one page and how far the job is: one transaction, fenced; raises LeaseLost."""
        page = [results.prepare(run) for run in runs]

        def work(connection: Connection) -> Stored:
            jobs.save_progress(connection, lease, progress)
            stored = results.store(
                connection,
                lease.source,
                page,
                fetched_at=fetched_at,
                origin=origin,
                now=now(),
            )
            if stored.new or stored.versions:
                jobs.acquit(connection, lease)
            return stored

        return self.database.write(work)

    def unseen_runs(self, source: str, batch_id: str, *, since: datetime, limit: int) -> list[str]:
        """Runs that a listing begun at `since` left without a result."""
        with self.database.read() as connection:
            return results.unseen(connection, source, batch_id, since=since, limit=limit)

    def settle_batch(self, lease: Lease, batch: FetchedBatch) -> Ledger:
        """Call the batch complete if it is, and end its other checks; raises LeaseLost."""

        def work(connection: Connection) -> Ledger:
            moment = now()
            jobs.save_progress(connection, lease, lease.progress)
            found = batches.settle(connection, lease.source, batch, now=moment)
            if found.state == "complete" and found.endpoint_id is not None:
                jobs.end_checks(connection, found.endpoint_id, now=moment, but=lease.job_id)
            return found

        return self.database.write(work)

    def has_result(self, source: str, run_id: str) -> bool:
        """Whether the result of a run is stored."""
        with self.database.read() as connection:
            return results.has_result(connection, source, run_id)

    def is_run_of(self, source: str, run_id: str, batch_id: str) -> bool:
        """Whether we know a run as one of this batch."""
        with self.database.read() as connection:
            return results.is_run_of(connection, source, run_id, batch_id)

    def check_soon(self, endpoint_id: str) -> None:
        """Look now, not at the next turn of the check, for what happened at this endpoint."""
        self.database.write(lambda c: jobs.check_soon(c, endpoint_id, now=now()))

    def end_checks(self, endpoint_id: str) -> None:
        """Nothing more is waited for at this endpoint."""
        self.database.write(lambda c: jobs.end_checks(c, endpoint_id, now=now()))

    def export(
        self,
        selection: export.Selection,
        format: str,
        out: IO[bytes],
        *,
        formula_guard: bool = True,
        progress: Callable[[int], None] | None = None,
    ) -> export.ExportReport:
        """Write the selected current results to `out` as a stream."""
        return export.export(
            self.database,
            selection,
            format,
            out,
            formula_guard=formula_guard,
            progress=progress,
        )


def _enqueue_check(
    connection: Connection,
    source: str,
    kind: str,
    resource: str | None,
    endpoint_id: str,
    moment: datetime,
) -> None:
    jobs.enqueue(
        connection,
        kind="check",
        source=source,
        subject_kind=kind,
        subject=resource,
        endpoint_id=endpoint_id,
        status="pending",
        next_attempt_at=moment + FIRST_CHECK,
        created_at=moment,
        claims=0,
        failures=0,
        waits=0,
    )
