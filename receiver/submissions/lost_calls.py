"""Finding out what came of a call whose answer was lost, so that nothing is paid for twice."""

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import timedelta

from starlette.concurrency import run_in_threadpool

from receiver.providers.capabilities.batches import (
    AddsToBatches,
    ListsBatches,
    ListsPages,
    StreamsRuns,
)
from receiver.providers.capabilities.require import require_additions
from receiver.providers.capabilities.runs import ListsRuns
from receiver.providers.model import NewTask, Subject
from receiver.sender_api.stream_parsers import PARSERS
from receiver.submissions.addition_outcome import AdditionOutcome, Part, submitted
from receiver.submissions.base import Submissions
from storage import FetchedBatch, FetchedRun, KnownRun, Submission, SubmittedRun

CLOCKS_APART = timedelta(minutes=5)
"""How far the sender's clock may be behind ours."""


class Undecided(Exception):
    """Could not find out whether a call was carried out; the text says what is known."""


class LostCalls(Submissions):
    """Looks at one source's sender for what a lost call may have made. Raises FetchError."""

    async def batch(self, known: Submission) -> str | None:
        """Return the batch that names the submission's endpoint, or None where none is shown."""
        if known.endpoint_id is None:
            return None
        endpoint = await run_in_threadpool(self._store.endpoints.show, known.endpoint_id)
        if endpoint is not None and endpoint.resource is not None:
            return endpoint.resource  # a check has found it
        if isinstance(self._provider, ListsBatches):
            answer = await self._calls.call(self._provider.batches())
            for batch in self._provider.read_batches(answer):
                if str(batch.webhook_url or "").rstrip("/").endswith(f"/{known.endpoint_id}"):
                    return batch.batch_id
        return None

    async def runs(self, known: Submission, part: Part) -> AdditionOutcome | None:
        """Return what came of the call that adds a part; None where it was not carried out.

        The status that decides is stored. Raises Undecided.
        """
        provider = require_additions(self._provider)
        subject = Subject("batch", part.batch_id)
        batch = provider.read_batch(await self._calls.call(provider.batch(subject)), subject)
        await run_in_threadpool(self._store.batches.note, self._source.name, batch)
        if batch.total is None:
            raise Undecided("the sender does not count the runs of the batch")
        growth = batch.total - known.before - known.accepted
        if growth == 0 and known.before == 0:
            return None  # nothing else is in the batch, and nobody has added to it
        if growth == len(part.tasks) and isinstance(provider, StreamsRuns):
            return AdditionOutcome([], unlisted=0, refused=0, unmatched=[])  # a stream names all
        before = await run_in_threadpool(self._store.batches.run_ids, known.source, part.batch_id)
        listed = [run async for run in self._listed(provider, batch, subject)]
        new = [run for run in listed if run.run_id not in before]
        found = matched(provider, part.tasks, new)
        return None if growth == 0 and not found else decide(part.tasks, growth, found)

    async def run(self, known: Submission) -> str | None:
        """Return the single run of a lost call; None where the sender shows that there is none.

        Raises Undecided.
        """
        endpoint_id = known.endpoint_id
        if endpoint_id is not None:
            endpoint = await run_in_threadpool(self._store.endpoints.show, endpoint_id)
            if endpoint is not None and endpoint.resource is not None:
                return endpoint.resource
        if isinstance(self._provider, ListsRuns):
            return await self._among_listed(self._provider, known)
        mark = await run_in_threadpool(self._store.runs.find_marked, known.source, known.id)
        if mark is None:
            raise Undecided(
                "the sender lists no single runs, and none has been announced that carries our id"
            )
        return mark

    async def _among_listed(self, provider: ListsRuns, known: Submission) -> str | None:
        """Return the one listed run that has our question, is new, and that nobody knows."""
        (task,) = await run_in_threadpool(self._store.submissions.tasks, known)
        runs = provider.read_runs(await self._calls.call(provider.runs()))
        since = (known.called_at or known.created_at) - CLOCKS_APART
        new = [run for run in runs if run.created_at is None or run.created_at >= since]
        query, names = task.input.get("query"), list[str]()
        for run in new:
            is_alike = query is None or (run.input or {}).get("query") == query
            if is_alike and await run_in_threadpool(self._find, run) is None:
                names.append(run.run_id)
        if len(names) == 1 and query is not None:
            return names[0]
        if names or (len(new) == len(runs) >= provider.runs_listed):
            raise Undecided(f"{len(names)} of the newest runs there may be the one")
        return None

    def _find(self, run: FetchedRun) -> KnownRun | None:
        return self._store.runs.find(self._source.name, run.run_id)

    async def _listed(
        self, provider: AddsToBatches, batch: FetchedBatch, subject: Subject
    ) -> AsyncIterator[FetchedRun]:
        if isinstance(provider, ListsPages):
            cursor: str | None = None
            while True:
                request = provider.list_runs(subject, cursor=cursor, size=provider.page_size)
                page = provider.read_page(await self._calls.call(request), batch)
                for run in page.runs:
                    yield run
                if page.cursor is None or page.cursor == cursor or not page.has_more:
                    return
                cursor = page.cursor
        if isinstance(provider, StreamsRuns):
            request = provider.stream_runs(subject, cursor=None)
            parser = PARSERS[provider.stream_format]()
            async with self._calls.stream(request, parser) as items:
                async for item, _ in items:
                    found = provider.read_streamed(item, batch, defaults={}).run
                    if found is not None:
                        yield found


def matched(
    provider: AddsToBatches, tasks: Sequence[NewTask], runs: Iterable[FetchedRun]
) -> dict[int, FetchedRun]:
    """Return the run of each task, by the task's position, as far as the sender shows it."""
    places: dict[str, list[int]] = defaultdict(list)
    for place in reversed(range(len(tasks))):
        places[provider.key_of(tasks[place])].append(place)
    found: dict[int, FetchedRun] = {}
    for run in runs:
        key = provider.key_of_run(run)
        if key is not None and places.get(key):
            found[places[key].pop()] = run
    return found


def decide(tasks: Sequence[NewTask], growth: int, found: dict[int, FetchedRun]) -> AdditionOutcome:
    """Return which tasks were added, where the batch has grown and these runs are shown.

    Raises Undecided where that leaves open which tasks they are.
    """
    if len(found) != len(tasks) and growth not in (len(found), len(tasks)):
        raise Undecided(
            f"the batch has {growth} more runs than were added before, and {len(found)} of them "
            f"show that they are of these {len(tasks)} tasks"
        )
    missing = [] if growth == len(tasks) else [i for i in range(len(tasks)) if i not in found]
    runs: list[SubmittedRun] = [submitted(run, tasks[place]) for place, run in found.items()]
    return AdditionOutcome(runs, unlisted=0, refused=len(missing), unmatched=missing)
