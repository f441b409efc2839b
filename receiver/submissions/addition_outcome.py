"""What the sender accepted of the tasks it was sent, and what to say where that is not all.

Pure: an answer and the tasks in, runs to expect and sentences out.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from receiver.providers.model import NewTask
from storage import FetchedRun, SubmittedRun

NAMED = 20
"""How many tasks a sentence names one by one."""


@dataclass(frozen=True, slots=True)
class Part:
    """The tasks of one call, and where they stand among those of the command and of the file."""

    batch_id: str
    tasks: Sequence[NewTask]
    before: int
    total: int
    skipped: int

    @property
    def after(self) -> int:
        """How many of the command's tasks stand before the next part."""
        return self.before + len(self.tasks)

    def again(self) -> str:
        """The command that goes on with this part."""
        return f"batch add {self.batch_id} --tasks FILE --skip {self.skipped + self.before}"

    def onwards(self) -> str | None:
        """The command that goes on after this part; None where it was the last."""
        if self.after == self.total:
            return None
        return f"batch add {self.batch_id} --tasks FILE --skip {self.skipped + self.after}"


@dataclass(frozen=True, slots=True)
class Accepted:
    """An answer to an addition, compared with what was sent.

    runs: the accepted tasks whose ids the sender told. unlisted: how many more it says that it
    accepted. refused: how many it did not. doubtful: the positions of the tasks that no run was
    matched with, so of the unlisted and the refused ones.
    """

    runs: list[SubmittedRun]
    unlisted: int
    refused: int
    doubtful: list[int]


def compare(runs: Sequence[FetchedRun], told: int | None, tasks: Sequence[NewTask]) -> Accepted:
    """Match accepted runs with what we sent: by the user's id, or by position where all came.

    `told` is how many were accepted in the sender's words, None where it does not say.
    """
    listed = {run.run_id: run for run in runs}
    places = _places(listed.values(), tasks)
    taken = set(places.values())
    unlisted = max(0, min(told or 0, len(tasks)) - len(listed))
    return Accepted(
        runs=[
            _submitted(run, tasks[places[run.run_id]] if run.run_id in places else None)
            for run in listed.values()
        ],
        unlisted=unlisted,
        refused=max(0, len(tasks) - len(listed) - unlisted),
        doubtful=[index for index in range(len(tasks)) if index not in taken],
    )


def _places(runs: Iterable[FetchedRun], tasks: Sequence[NewTask]) -> dict[str, int]:
    """Which task each run is of, as far as that can be known."""
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


def _submitted(run: FetchedRun, task: NewTask | None) -> SubmittedRun:
    return SubmittedRun(
        run_id=run.run_id,
        task_id=run.task_id or (task.task_id if task else None),
        input=dict(task.input) if task else None,
    )


# --- sentences ----------------------------------------------------------------------------------


def too_few(part: Part, accepted: Accepted) -> str:
    """The sender took fewer than it was sent."""
    names = _names(part, accepted.doubtful)
    if accepted.refused < len(accepted.doubtful):
        names = f"{accepted.refused} of these, without saying which: {names}"
    onwards = part.onwards()
    rest = f", and the {part.total - part.after} tasks after them with `{onwards}`"
    return (
        f"The sender accepted {len(part.tasks) - accepted.refused} of {len(part.tasks)} tasks for "
        f"{part.batch_id}, but not {names}. Look with `batch status {part.batch_id}`, then add "
        f"what is missing from a file of its own with `batch add {part.batch_id} --tasks FILE`"
        f"{rest if onwards else ''}."
    )


def says_nothing(part: Part) -> str:
    """The answer was a success that names no task and no number."""
    return (
        f"{part.before} of {part.total} tasks were added to {part.batch_id}; whether the next "
        f"{len(part.tasks)} were, the sender's answer does not say. Look with "
        f"`batch status {part.batch_id}`; if they were not: {part.again()}."
    )


def without_ids(part: Part, accepted: Accepted) -> str:
    """The sender took tasks whose ids it did not tell."""
    return (
        f"The sender accepted {accepted.unlisted} of the tasks for {part.batch_id} without telling "
        "their ids: their results are found by listing the batch, but columns of the tasks file "
        "that the sender does not give back are not known for them."
    )


def has_ended(part: Part, error: Exception, source: str) -> str:
    """The batch reached its end before all tasks were added."""
    return (
        f"{part.before} of {part.total} tasks were added to {part.batch_id}, then: {error}. "
        f"The batch has ended, so the other {part.total - part.before} need a batch of their own: "
        f"batch create {source} --tasks FILE --skip {part.skipped + part.before}."
    )


def not_stored(part: Part, accepted: Accepted, error: Exception) -> str:
    """Tasks were accepted, and we could not keep their ids."""
    onwards = part.onwards() or f"batch status {part.batch_id}"
    count = len(part.tasks) - accepted.refused
    refused = _names(part, accepted.doubtful)
    return (
        f"{part.before + count} of {part.total} tasks were added to {part.batch_id}, but the last "
        f"{count} could not be stored here: {str(error).rstrip('.')}. Do not add them again: their "
        "results are found by listing the batch, without further columns of the tasks file. "
        f"{f'The sender did not accept {refused}. ' if accepted.refused else ''}"
        f"Once that is mended: {onwards}."
    )


def _names(part: Part, positions: Sequence[int]) -> str:
    """Tasks by the user's ids, or by their numbers in the user's file."""
    names = [_name(part, index) for index in positions[:NAMED]]
    if len(positions) > NAMED:
        names.append(f"{len(positions) - NAMED} more")
    return ", ".join(names)


def _name(part: Part, index: int) -> str:
    task_id = part.tasks[index].task_id
    number = part.skipped + part.before + index + 1
    return f"task {number}" if task_id is None else f"id {task_id!r}"
