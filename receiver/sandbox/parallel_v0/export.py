"""The export of a batch, in pieces: its runs as JSON in two forms, or as CSV."""

import csv
import io
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from receiver.sandbox.answers import encode
from receiver.sandbox.parallel_v0 import views
from receiver.sandbox.parallel_v0.output import as_text
from receiver.sandbox.parallel_v0.records import DONE, Batch, Run
from receiver.sandbox.switches import Switches

# Runs in one piece of an export.
PIECE = 100

COLUMNS = ("task_id", "batch_run_id", "run_id", "status", "runner")


def exported(batch: Batch, switches: Switches) -> list[Run]:
    """The runs that are exported now, in the order they were asked for."""
    shown = DONE if switches.v0_export_rows == "terminal" else {"complete"}
    return [run for run in batch.runs if run.status in shown]


def as_array(runs: list[Run]) -> Iterator[bytes]:
    """One JSON array."""
    lead = b"["
    for piece in _pieces(runs):
        yield lead + b",".join(encode(views.run(run)) for run in piece)
        lead = b","
    yield b"]" if runs else b"[]"


def as_lines(runs: list[Run]) -> Iterator[bytes]:
    """One JSON object a line."""
    for piece in _pieces(runs):
        yield b"".join(encode(views.run(run)) + b"\n" for run in piece)


def as_csv(runs: list[Run]) -> Iterator[bytes]:
    """A row for each run under bare keys; a key of both input and output has two columns."""
    arguments = _keys(run.arguments for run in runs)
    outputs = _keys(run.output or {} for run in runs)
    yield _written([[*COLUMNS, *arguments, *outputs]])
    for piece in _pieces(runs):
        yield _written(_row(run, arguments, outputs) for run in piece)


def _keys(objects: Iterable[dict[str, Any]]) -> list[str]:
    """The keys of all of them, in the order they were first seen."""
    return list(dict.fromkeys(key for each in objects for key in each))


def _row(run: Run, arguments: list[str], outputs: list[str]) -> list[str]:
    shown, brought = views.run(run), run.output or {}
    return [
        *(as_text(shown[name]) for name in COLUMNS),
        *(as_text(run.arguments.get(name)) for name in arguments),
        *(as_text(brought.get(name)) for name in outputs),
    ]


def _written(rows: Iterable[list[str]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    return text.getvalue().encode()


def _pieces(runs: list[Run]) -> Iterator[list[Run]]:
    rest = iter(runs)
    while piece := list(islice(rest, PIECE)):
        yield piece
