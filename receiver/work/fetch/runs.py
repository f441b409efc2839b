"""Bringing in a single run: by its batch's listing where that is cheaper, else by its own call."""

from datetime import timedelta

from receiver.errors import Missing, NotReady, Refused, Unasked, Unbound
from receiver.providers.model import Subject
from receiver.telemetry.logs import get_logger
from receiver.work.fetch.context import FetchContext, with_output
from storage import EndpointView, FetchedRun, KnownRun, Lease

log = get_logger("fetch")

LISTED_FIRST = 4
"""So many times a run's event waits for its batch to be listed, before the run is asked for."""

GATHER_PART = 10
GATHER_LEAST = timedelta(seconds=1)
GATHER_MOST = timedelta(seconds=30)
"""News of a batch is gathered for a tenth of its age before it is listed, within these bounds: the
number of listings then grows with the logarithm of the time that a batch takes."""


class FetchRuns(FetchContext):
    """Brings in single runs."""

    async def fetch_run(self, lease: Lease, endpoint: EndpointView | None) -> str:
        """Do what a job about a run asks; see Fetch."""
        run_id = lease.subject or (endpoint and endpoint.resource)
        if not run_id:
            raise Unbound("it is not known yet which run this endpoint is for")
        known = await self.in_thread(self.store.runs.find, lease.source, run_id)
        subject = self._subject(lease, endpoint, run_id, known)
        if known is not None and self._has_come(lease, known):
            said = f"run {known.result}, stored before"
        else:
            await self._list_first(lease, subject, known)
            began = self.store.now()
            run = with_output(await self.ask(subject), lease, now=self.store.now())
            _refuse_a_stranger(endpoint, run, known)
            await self.bind(endpoint, run_id)
            is_news = _note_question(lease, run)
            await self.listing.keep(lease, [run], began)
            if is_news:
                _tell_question(lease, run)
            await self._tell_its_batch(lease, subject, run)
            if not run.is_result:
                return _goes_on(lease, run)
            said = f"run {run.status}"
        await self._ask_for_input(lease, subject)
        await self.end_checks(lease, endpoint)
        return said

    def _has_come(self, lease: Lease, known: KnownRun) -> bool:
        """Whether the result that an event announces is stored, perhaps by its batch's listing.

        It is where it has the status that was announced, or was fetched after the event came. What
        else is known of the run says nothing of its result. An event that came again with another
        body is news all the same.
        """
        if not self.provider.gathers or known.result is None or known.fetched_at is None:
            return False
        announced = self.provider.statuses.get(lease.progress.get("status") or "")
        return announced == known.result or known.fetched_at >= lease.created_at

    def _subject(
        self, lease: Lease, endpoint: EndpointView | None, run_id: str, known: KnownRun | None
    ) -> Subject:
        task_id = endpoint.task_id if endpoint else None
        if task_id is None and known is not None and self.provider.below_tasks:
            task_id = known.task_id
        return Subject(lease.subject_kind, run_id, task_id, lease.progress.get("status"))

    async def _list_first(self, lease: Lease, subject: Subject, known: KnownRun | None) -> None:
        """Have the batch of a run listed, and wait for that; raises NotReady."""
        batch_id = (known and known.batch_id) or lease.progress.get("batch")
        if not self.provider.gathers or batch_id is None or lease.kind == "check":
            return
        if lease.waits >= LISTED_FIRST or not lease.progress.get("awaits_end", True):
            return
        if lease.progress.get("again") or (lease.waits and _is_left_open(known)):
            return
        await self.in_thread(self._hurry, lease.source, batch_id, subject.task_id)
        raise Unasked(f"batch {batch_id} is listed first")

    def _hurry(self, source: str, batch_id: str, task_id: str | None) -> None:
        """Have news of a batch gathered, then listed; nothing is written where that is due anyway.

        A thousand events of one batch must not cost a thousand writes.
        """
        known = self.store.batches.watched(source, batch_id)
        age = timedelta() if known is None else self.store.now() - known.created_at
        after = min(max(age / GATHER_PART, GATHER_LEAST), GATHER_MOST)
        due = self.store.batches.check_due(source, batch_id)
        if due is None or due > after:
            self.store.batches.check(source, batch_id, after=after, task_id=task_id)

    async def _tell_its_batch(self, lease: Lease, subject: Subject, run: FetchedRun) -> None:
        """A run that was fetched alone is news of its batch, which we may not even know of."""
        if not self.provider.gathers or run.batch_id is None or lease.kind == "check":
            return
        known = await self.in_thread(self.store.batches.watched, lease.source, run.batch_id)
        if known is None or known.state != "complete":
            await self.in_thread(self._hurry, lease.source, run.batch_id, subject.task_id)

    async def _ask_for_input(self, lease: Lease, subject: Subject) -> None:
        """Once, for a run that we did not submit; a sender that has it no more is believed."""
        request = self.provider.input(subject)
        if request is None:
            return
        known = await self.in_thread(self.store.runs.find, lease.source, subject.id)
        if known is None or known.has_input:
            return
        try:
            given = self.provider.read_input(await self.calls.call(request))
        except (Missing, Refused) as error:
            log.warning("a run's input is not told", source=lease.source, why=str(error))
            return
        if given is not None:
            await self.in_thread(
                lambda: self.store.runs.note_input(lease.source, subject.id, given)
            )


def _is_left_open(known: KnownRun | None) -> bool:
    """Whether the sender has told of a vain end, but not its story: no listing may tell more."""
    if known is None or known.result is not None:
        return False
    return known.sender_status in ("failed", "cancelled")


def _goes_on(lease: Lease, run: FetchedRun) -> str:
    """A run that has no result yet: done with where no end was announced; else NotReady."""
    if not lease.progress.get("awaits_end", True):
        return f"run is {run.sender_status}"
    missing = ", but its output is not there" if run.status == "completed" else ""
    raise NotReady(f"run is {run.sender_status}{missing}")


def _note_question(lease: Lease, run: FetchedRun) -> bool:
    """Whether a run asks a person what this job has not told of yet: checks look again and again.

    What we know of the run does not say so, for a command may have seen the question first.
    """
    if run.waits_for is None:
        return False
    asked = [run.sender_status, run.waits_for.get("interaction_id")]
    is_news = lease.progress.get("asked") != asked
    lease.progress["asked"] = asked
    return is_news


def _tell_question(lease: Lease, run: FetchedRun) -> None:
    log.warning(
        "run awaits input",
        source=lease.source,
        run=run.run_id,
        status=run.sender_status,
        question=str((run.waits_for or {}).get("type") or "see `task show`"),
    )


def _refuse_a_stranger(
    endpoint: EndpointView | None, run: FetchedRun, known: KnownRun | None
) -> None:
    """A run announced at a batch's endpoint must belong to that batch, says the API."""
    if endpoint is None or endpoint.kind != "batch":
        return
    if endpoint.resource is None:
        raise Unbound("it is not known yet which batch this endpoint is for")
    if (run.batch_id or (known and known.batch_id)) != endpoint.resource:
        raise Refused(f"run {run.run_id} is not of the batch of this endpoint")
