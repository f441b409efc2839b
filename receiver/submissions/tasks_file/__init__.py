"""Tasks of a batch, read from a CSV, JSON or JSON Lines file.

table: the rows of a CSV file, without what a spreadsheet leaves behind
separators: which character separates its columns
documents: the objects of a JSON or JSON Lines file
"""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from receiver.errors import UsageError
from receiver.providers.capabilities.batches import CreatesBatches
from receiver.providers.model import NewTask
from receiver.submissions.tasks_file.documents import read_json, read_json_lines
from receiver.submissions.tasks_file.rows import Row
from receiver.submissions.tasks_file.separators import Separator
from receiver.submissions.tasks_file.table import read_table
from receiver.text_files import read_text

__all__ = ["Separator", "TasksFile", "read_tasks"]


class TasksFile(NamedTuple):
    """The tasks of a file, in its order, and one sentence that says how it was read."""

    tasks: list[NewTask]
    summary: str


def read_tasks(
    path: Path,
    provider: CreatesBatches,
    *,
    encoding: str | None = None,
    separator: Separator | None = None,
) -> TasksFile:
    """Return all tasks of a file for a provider.

    CSV has a header row; spaces around its names are dropped, and the provider's own names may be
    in any case (a spreadsheet may have `Query` or ` id`). JSON is a list of objects, JSON Lines one
    object a line. What can be understood in two ways is refused, since tasks cost money. Raises
    UsageError that names the file, the line or item, and what is wrong.
    """
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".tsv", ".json", ".jsonl", ".ndjson"):
        raise UsageError(f"{path}: write the tasks as .csv, .tsv, .json or .jsonl.")
    if separator is not None and suffix not in (".csv", ".tsv"):
        raise UsageError(f"{path} is no CSV: leave --separator out.")
    file = read_text(path, encoding=encoding, option="--encoding")
    try:
        if suffix in (".csv", ".tsv"):
            usual = Separator.tab if suffix == ".tsv" else Separator.comma
            read = read_table(file.text, provider, separator, usual)
        else:
            read = read_json(file.text) if suffix == ".json" else read_json_lines(file.text)
        tasks = _tasks(read.rows, provider)
    except ValueError as error:
        raise UsageError(f"{path}, {error}.") from None
    if not tasks:
        raise UsageError(f"{path} has no tasks: write at least one row.")
    details = ", ".join([read.form, file.encoding, *read.left_out])
    many = "1 task" if len(tasks) == 1 else f"{len(tasks)} tasks"
    return TasksFile(tasks, f"Read {many} from {path}: {details}.")


def _tasks(rows: Iterable[Row], provider: CreatesBatches) -> list[NewTask]:
    """Make the tasks of rows; raises ValueError that begins with the place of the wrong one."""
    tasks: list[NewTask] = []
    known: dict[str, str] = {}
    for place, row in rows:
        try:
            task = provider.new_task(row)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None
        if task.task_id is not None:
            if task.task_id in known:
                already = known[task.task_id]
                raise ValueError(f"{place}: id {task.task_id!r} stands in {already} already")
            known[task.task_id] = place
        tasks.append(task)
    return tasks
