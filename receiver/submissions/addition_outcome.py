"""Outcome of adding tasks: which ones the sender accepted, and the sentences where not all.

Pure: an answer and the tasks in, runs to expect and sentences out.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from receiver.providers.model import NewTask
from storage import FetchedRun, SubmittedRun

NAMED = 20
"""Limit of tasks that a sentence names one by one."""


@dataclass(frozen=True, slots=True)
class Part:
    """The tasks of one call, and their place among those of the command and of the file.

    resume: the command that goes on behind what is known to be done.
    """

    batch_id: str
    tasks: Sequence[NewTask]
    before: int
    total: int
    skipped: int
    resume: str

    @property
    def after(self) -> int:
        """Return how many of the command's tasks come before the next part."""
        return self.before + len(self.tasks)


@dataclass(frozen=True, slots=True)
class AdditionOutcome:
    """The sender's answer, compared with the tasks that it was sent.

    runs: accepted tasks whose run ids it named. unlisted: how many more it says it accepted.
    refused: how many it did not accept. unmatched: positions of the tasks without a run, which are
    the unlisted and the refused ones.
    """

    runs: list[SubmittedRun]
    unlisted: int
    refused: int
    unmatched: list[int]


def compare(
    runs: Sequence[FetchedRun], count: int | None, tasks: Sequence[NewTask]
) -> AdditionOutcome:
    """Match accepted runs with the tasks: by the user's id, or by position where all are named.

    `count` is how many tasks the sender says it accepted, None where it gives no number.
    """
    listed = {run.run_id: run for run in runs}
    places = _places(listed.values(), tasks)
    taken = set(places.values())
    unlisted = max(0, min(count or 0, len(tasks)) - len(listed))
    return AdditionOutcome(
        runs=[
            submitted(run, tasks[places[run.run_id]] if run.run_id in places else None)
            for run in listed.values()
        ],
        unlisted=unlisted,
        refused=max(0, len(tasks) - len(listed) - unlisted),
        unmatched=[index for index in range(len(tasks)) if index not in taken],
    )


def _places(runs: Iterable[FetchedRun], tasks: Sequence[NewTask]) -> dict[str, int]:
    """Return the position of each run's task, by the run's id, as far as that can be known."""
    by_id = {task.task_id: index for index, task in enumerate(tasks) if task.task_id is not None}
    places: dict[str, int] = {}
    rest = []
    for run in runs:
        index = None if run.task_id is None else by_id.pop(run.task_id, None)
        if index is None:
            rest.append(run.run_id)
        else:
            places[run.run_id] = index
    taken = set(places.values())
    free = [index for index in range(len(tasks)) if index not in taken]
    if len(rest) == len(free):
        places.update(zip(rest, free, strict=True))
    return places


def submitted(run: FetchedRun, task: NewTask | None) -> SubmittedRun:
    """Return an accepted run with the input of its task."""
    return SubmittedRun(
        run_id=run.run_id,
        task_id=run.task_id or (task.task_id if task else None),
        input=dict(task.input) if task else None,
    )


# --- sentences ----------------------------------------------------------------------------------


def too_few(part: Part, outcome: AdditionOutcome) -> str:
    """Return the sentence where the sender accepted fewer tasks than it was sent."""
    names = _names(part, outcome.unmatched)
    if outcome.refused < len(outcome.unmatched):
        names = f"{outcome.refused} of these, without saying which: {names}"
    left = part.total - part.after
    rest = f" The {left} tasks after them are added with: {part.resume}." if left else ""
    return (
        f"The sender accepted {len(part.tasks) - outcome.refused} of {len(part.tasks)} tasks for "
        f"{part.batch_id}, but not {names}. Look with `batch status {part.batch_id}`, then add "
        f"what is missing from a file of its own with `batch add {part.batch_id} --tasks FILE`."
        f"{rest}"
    )


def refused(part: Part, error: Exception, *, is_undone: bool) -> str:
    """Return the sentence where the sender refused a call; `is_undone` leaves nothing to resume."""
    then = ", run the command again" if is_undone else f": {part.resume}"
    return f"{_so_far(part)}, then: {error}. Once that is mended{then}."


def lost(part: Part, error: Exception) -> str:
    """Return the sentence where the answer to a call was lost, and nothing is found of it."""
    return (
        f"{_so_far(part)}, then: {error}. Whether the next {len(part.tasks)} were added is not to "
        f"be seen yet; this looks again before it adds any: {part.resume}."
    )


def says_nothing(part: Part) -> str:
    """Return the sentence for a success that names no task and no number."""
    return (
        f"{_so_far(part)}; whether the next {len(part.tasks)} were, the sender's answer does not "
        f"say. This looks again before it adds any: {part.resume}."
    )


def undecided(part: Part, why: Exception) -> str:
    """Return the sentence where nobody can tell whether a call was carried out."""
    return (
        f"{_so_far(part)}; whether the next {len(part.tasks)} were cannot be found out: {why}. "
        f"Look with `batch status {part.batch_id}`. If they were not added: {part.resume} "
        f"--repeat (they are charged twice if they were); to leave out what is not added yet: "
        f"{part.resume} --give-up."
    )


def not_asked(part: Part, error: Exception) -> str:
    """Return the sentence where the sender could not be asked what came of a call."""
    return (
        f"{_so_far(part)}; whether the next {len(part.tasks)} were could not be asked: {error}. "
        f"Once that is mended: {part.resume}."
    )


def _so_far(part: Part) -> str:
    return f"{part.before} of {part.total} tasks were added to {part.batch_id}"


def without_ids(part: Part, outcome: AdditionOutcome) -> str:
    """Return the warning where the sender accepted tasks without naming their runs."""
    return (
        f"The sender accepted {outcome.unlisted} of the tasks for {part.batch_id} without telling "
        "their ids: their results are found by listing the batch, but columns of the tasks file "
        "that the sender does not give back are not known for them."
    )


def has_ended(part: Part, error: Exception, source: str) -> str:
    """Return the sentence where the batch ended before all tasks were added."""
    return (
        f"{part.before} of {part.total} tasks were added to {part.batch_id}, then: {error}. "
        f"The batch has ended, so the other {part.total - part.before} need a batch of their own: "
        f"batch create {source} --tasks FILE --skip {part.skipped + part.before}."
    )


def not_stored(part: Part, outcome: AdditionOutcome, error: Exception) -> str:
    """Return the sentence where tasks were accepted and could not be stored here."""
    count = len(part.tasks) - outcome.refused
    refused = _names(part, outcome.unmatched)
    return (
        f"{part.before + count} of {part.total} tasks were added to {part.batch_id}, but the last "
        f"{count} could not be stored here: {str(error).rstrip('.')}. "
        f"{f'The sender did not accept {refused}. ' if outcome.refused else ''}"
        f"Once that is mended, this finds them and does not add them again: {part.resume}."
    )


def _names(part: Part, positions: Sequence[int]) -> str:
    """Name tasks by the user's ids, or by their numbers in the user's file."""
    names = [_name(part, index) for index in positions[:NAMED]]
    if len(positions) > NAMED:
        names.append(f"{len(positions) - NAMED} more")
    return ", ".join(names)


def _name(part: Part, index: int) -> str:
    task_id = part.tasks[index].task_id
    number = part.skipped + part.before + index + 1
    return f"task {number}" if task_id is None else f"id {task_id!r}"
