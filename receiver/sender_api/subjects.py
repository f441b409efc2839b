"""Subjects of calls, and the order of the calls that may know a run."""

from collections.abc import Iterable

from receiver.errors import FetchError, Missing
from receiver.providers.base import Provider
from receiver.providers.model import Subject
from receiver.sender_api.calls import Calls
from storage import EndpointView, FetchedRun, KnownRun, Ledger


def subject_of(
    provider: Provider,
    kind: str,
    resource: str,
    *,
    endpoint: EndpointView | None = None,
    known: KnownRun | Ledger | None = None,
    status: str | None = None,
) -> Subject:
    """Return the subject of a call, below the stored task that its endpoint or the store names.

    `known` is what the store has of the run or batch; it counts only for a provider whose
    addresses need the task. `status` is the announced one, in the sender's word.
    """
    task_id = endpoint.task_id if endpoint is not None else None
    if task_id is None and provider.below_tasks and known is not None:
        task_id = known.task_id
    return Subject(kind, resource, task_id, status)


async def ask_first_that_knows(
    calls: Calls, run: Subject, *, passing_over: Iterable[type[FetchError]] = (Missing,)
) -> FetchedRun:
    """Return the run from the first of the provider's calls that knows it.

    An error of a kind in `passing_over` leads to the next call; the last call's error is raised.
    """
    provider = calls.source.provider
    *others, last = provider.run(run)
    for request in others:
        try:
            return provider.read_run(await calls.call(request), run)
        except tuple(passing_over):
            continue
    return provider.read_run(await calls.call(last), run)
