"""Fetching a single run: by its batch's listing where that is cheaper, else by its own call."""

from datetime import timedelta

from starlette.concurrency import run_in_threadpool

from receiver.errors import Missing, NotReady, Refused, Unasked, Unbound
from receiver.providers.capabilities.runs import TellsInputs
from receiver.providers.model import Subject
from receiver.sender_api.subjects import ask_first_that_knows, subject_of
from receiver.telemetry.logs import get_logger
from receiver.work.fetch.context import FetchContext
from receiver.work.fetch.late_outputs import with_output
from storage import EndpointView, FetchedRun, KnownRun, Lease

log = get_logger("fetch")

LISTED_FIRST = 4
"""A run's event waits so many times for its batch to be listed before the run itself is fetched."""

GATHER_PART = 10
GATHER_LEAST = timedelta(seconds=1)
GATHER_MOST = timedelta(seconds=30)
"""News of a batch is gathered for a tenth of its age before it is listed, within these bounds: the
number of listings then grows with the logarithm of the time that a batch takes."""


class RunFetch:
    """Fetches the single runs of one source."""

    def __init__(self, context: FetchContext) -> None:
        self._context = context
        self._store = context.store
        self._calls = context.calls
        self._provider = context.provider

    async def fetch(self, lease: Lease, endpoint: EndpointView | None) -> str:
        """Do what a job about a run is for; raises and returns what `Fetch.attempt` does."""
        run_id = lease.subject or (endpoint and endpoint.resource)
        if not run_id:
            raise Unbound("it is not known yet which run this endpoint is for")
        known = await run_in_threadpool(self._store.runs.find, lease.source, run_id)
        subject = subject_of(
            self._provider,
            lease.subject_kind,
            run_id,
            endpoint=endpoint,
            known=known,
            status=lease.progress.get("status"),
        )
        if known is not None and self._is_here(lease, known):
            sentence = f"run {known.result}, stored before"
        else:
            await self._list_first(lease, subject, known)
            run = await self._fetch(lease, subject, endpoint=endpoint, known=known)
            if not run.is_result:
                return _not_ended(lease, run)
            sentence = f"run {run.status}"
        await self._fetch_input(lease, subject)
        await self._context.end_checks(lease, endpoint)
        return sentence

    async def _fetch(
        self,
        lease: Lease,
        subject: Subject,
        *,
        endpoint: EndpointView | None,
        known: KnownRun | None,
    ) -> FetchedRun:
        """Fetch the run by its own call, and store it."""
        began = self._store.now()
        run = await ask_first_that_knows(self._calls, subject)
        run = with_output(run, lease, now=self._store.now())
        _refuse_another_batch(endpoint, run, known)
        await self._context.bind(endpoint, subject.id)
        has_new_question = _note_question(lease, run)
        await self._context.store_runs(lease, [run], began)
        if has_new_question:
            _log_question(lease, run)
        await self._list_its_batch(lease, subject, run)
        return run

    def _is_here(self, lease: Lease, known: KnownRun) -> bool:
        """Return True where the announced result is stored, perhaps by a listing of its batch.

        Its status is then the announced one, or it was fetched after the event came. What else is
        known of the run does not count. An event that came again with another body is news.
        """
        if not self._context.gathers or known.result is None or known.fetched_at is None:
            return False
        announced = self._provider.statuses.get(lease.progress.get("status") or "")
        return announced == known.result or known.fetched_at >= lease.created_at

    async def _list_first(self, lease: Lease, subject: Subject, known: KnownRun | None) -> None:
        """Have the run's batch listed, and raise Unasked to wait for that, where it may help."""
        batch_id = (known and known.batch_id) or lease.progress.get("batch")
        if not self._context.gathers or batch_id is None or lease.kind == "check":
            return
        if lease.waits >= LISTED_FIRST or not lease.progress.get("awaits_end", True):
            return
        if lease.progress.get("again") or (lease.waits and _has_ended_in_vain(known)):
            return
        await run_in_threadpool(self._hurry, lease, batch_id, subject.task_id)
        raise Unasked(f"batch {batch_id} is listed first")

    def _hurry(self, lease: Lease, batch_id: str, task_id: str | None) -> None:
        """Have news of a batch gathered, then listed; writes nothing where that is due anyway.

        A thousand events of one batch must not cost a thousand writes.
        """
        source = lease.source
        known = self._store.batches.watched(source, batch_id)
        age = timedelta() if known is None else self._store.now() - known.created_at
        after = min(max(age / GATHER_PART, GATHER_LEAST), GATHER_MOST)
        due = self._store.batches.check_due(source, batch_id)
        if due is None or due > after:
            self._store.batches.check(
                source, batch_id, by=lease.found_by, after=after, task_id=task_id
            )

    async def _list_its_batch(self, lease: Lease, subject: Subject, run: FetchedRun) -> None:
        """Have the batch of a run listed that was fetched alone; it may not even be known yet."""
        if not self._context.gathers or run.batch_id is None or lease.kind == "check":
            return
        known = await run_in_threadpool(self._store.batches.watched, lease.source, run.batch_id)
        if known is None or known.state != "complete":
            await run_in_threadpool(self._hurry, lease, run.batch_id, subject.task_id)

    async def _fetch_input(self, lease: Lease, subject: Subject) -> None:
        """Fetch the input of a run that was submitted elsewhere, unless it is known."""
        provider = self._provider
        if not isinstance(provider, TellsInputs):
            return
        known = await run_in_threadpool(self._store.runs.find, lease.source, subject.id)
        if known is None or known.has_input:
            return
        try:
            given = provider.read_input(await self._calls.call(provider.input(subject)))
        except (Missing, Refused) as error:
            log.warning("a run's input is not known", source=lease.source, why=str(error))
            return
        if given is not None:
            await run_in_threadpool(
                lambda: self._store.runs.note_input(lease.source, subject.id, given)
            )


def _has_ended_in_vain(known: KnownRun | None) -> bool:
    """Return True where a failed run has no result yet: a listing may not tell more of it."""
    if known is None or known.result is not None:
        return False
    return known.sender_status in ("failed", "cancelled")


def _not_ended(lease: Lease, run: FetchedRun) -> str:
    """Return a sentence on a run without a result; raises NotReady where it should have one."""
    if not lease.progress.get("awaits_end", True):
        return f"run is {run.sender_status}"
    missing = ", but its output is not there" if run.status == "completed" else ""
    raise NotReady(f"run is {run.sender_status}{missing}")


def _note_question(lease: Lease, run: FetchedRun) -> bool:
    """Return True where the run has a question that this job has not logged; note it as logged.

    The job's progress keeps it, since checks see it again and again; the stored run does not tell,
    since a command may have seen the question first.
    """
    if run.waits_for is None:
        return False
    question = [run.sender_status, run.waits_for.get("interaction_id")]
    is_new = lease.progress.get("asked") != question
    lease.progress["asked"] = question
    return is_new


def _log_question(lease: Lease, run: FetchedRun) -> None:
    log.warning(
        "run awaits input",
        source=lease.source,
        run=run.run_id,
        status=run.sender_status,
        question=str((run.waits_for or {}).get("type") or "see `task show`"),
    )


def _refuse_another_batch(
    endpoint: EndpointView | None, run: FetchedRun, known: KnownRun | None
) -> None:
    """Raise Refused where a run that was announced at a batch's endpoint is of another batch."""
    if endpoint is None or endpoint.kind != "batch":
        return
    if endpoint.resource is None:
        raise Unbound("it is not known yet which batch this endpoint is for")
    if (run.batch_id or (known and known.batch_id)) != endpoint.resource:
        raise Refused(f"run {run.run_id} is not of the batch of this endpoint")
