"""Options and arguments that several commands share."""

import math
from typing import Annotated

import typer

from receiver.errors import UsageError

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]

SourceName = Annotated[str | None, typer.Option("--source", help="Only this source.")]

BatchName = Annotated[
    str, typer.Argument(metavar="BATCH", help="Its id, its name, or the beginning of either.")
]

MAX_ID = 2**63 - 1
"""The largest integer that a column holds."""

Limit = Annotated[int, typer.Option(help="How many at most, newest first.", min=1, max=MAX_ID)]

Id = Annotated[
    int, typer.Argument(metavar="ID", help="Its id, as `list` shows it.", min=1, max=MAX_ID)
]

IdOrNone = Annotated[
    int | None,
    typer.Argument(metavar="ID", help="Its id, as `list` shows it.", min=1, max=MAX_ID),
]


def _checked(timeout: float | None) -> float | None:
    if timeout is not None and not (math.isfinite(timeout) and timeout >= 0):
        raise UsageError(f"--timeout {timeout} is no duration: give seconds, 0 or more.")
    return timeout


Timeout = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS", help="Seconds to wait at most; then exit 1.", callback=_checked
    ),
]
