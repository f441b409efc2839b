"""Tasks files of three senders, read as `batch create` reads them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from receiver.errors import UsageError
from receiver.providers.capabilities.batches import CreatesBatches
from receiver.providers.parallel.provider import Parallel
from receiver.providers.parallel_v0.provider import ParallelV0
from receiver.providers.valyu.provider import Valyu
from receiver.submissions.tasks_file import TasksFile, read_tasks

Refusal = Callable[..., str]


def read(
    content: str | bytes,
    provider: CreatesBatches | None = None,
    *,
    name: str = "t.csv",
    **told: Any,
) -> TasksFile:
    """The tasks of a table in the working directory; Parallel's unless told otherwise."""
    data = content.encode() if isinstance(content, str) else content
    Path(name).write_bytes(data)
    return read_tasks(Path(name), provider or Parallel(), **told)


@pytest.fixture(params=[Parallel, ParallelV0, Valyu])
def refusal(request: pytest.FixtureRequest) -> Refusal:
    """The sentence with which a file is refused, whoever the sender is.

    A column that the sender needs is put beside those of the file.
    """
    provider = request.param()
    needed = provider.required

    def refusal(*rows: str, separator: str = ",", line_end: str = "\n") -> str:
        if needed:
            rows = tuple(
                f"{'a question' if at else needed}{separator}{row}" for at, row in enumerate(rows)
            )
        with pytest.raises(UsageError) as raised:
            read(line_end.join(rows) + line_end, provider)
        return str(raised.value)

    return refusal
