"""Exports of a batch in pieces: its runs as JSON in two forms, or as CSV."""

import csv
import io
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from receiver.sandbox.parallel_v0 import views
from receiver.sandbox.parallel_v0.output import as_text
from receiver.sandbox.parallel_v0.records import DONE, V0Batch, V0Run
from receiver.sandbox.responses import encode
from receiver.sandbox.switches import Switches

PIECE = 100
"""Number of runs in one piece of an export."""

COLUMNS = ("task_id", "batch_run_id", "run_id", "status", "runner")


def exported(batch: V0Batch, switches: Switches) -> list[V0Run]:
    """Return the runs that an export now has, in the order of the request."""
    shown = DONE if switches.v0_export_rows == "terminal" else {"complete"}
    return [run for run in batch.runs if run.status in shown]


def as_array(runs: list[V0Run]) -> Iterator[bytes]:
    """Yield one JSON array."""
    lead = b"["
    for piece in _pieces(runs):
        yield lead + b",".join(encode(views.run(run)) for run in piece)
        lead = b","
    yield b"]" if runs else b"[]"


def as_lines(runs: list[V0Run]) -> Iterator[bytes]:
    """Yield one JSON object a line."""
    for piece in _pieces(runs):
        yield b"".join(encode(views.run(run)) + b"\n" for run in piece)


def as_csv(runs: list[V0Run]) -> Iterator[bytes]:
    """Yield a header of bare keys and a row for each run.

    A key that is in both input and output has two columns.
    """
    arguments = _keys(run.arguments for run in runs)
    outputs = _keys(run.output or {} for run in runs)
    yield _written([[*COLUMNS, *arguments, *outputs]])
    for piece in _pieces(runs):
        yield _written(_row(run, arguments, outputs) for run in piece)


def _keys(objects: Iterable[dict[str, Any]]) -> list[str]:
    """Return the keys of all objects, in the order in which they first occur."""
    return list(dict.fromkeys(key for each in objects for key in each))


def _row(run: V0Run, arguments: list[str], outputs: list[str]) -> list[str]:
    shown, output = views.run(run), run.output or {}
    return [
        *(as_text(shown[name]) for name in COLUMNS),
        *(as_text(run.arguments.get(name)) for name in arguments),
        *(as_text(output.get(name)) for name in outputs),
    ]


def _written(rows: Iterable[list[str]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    return text.getvalue().encode()


def _pieces(runs: list[V0Run]) -> Iterator[list[V0Run]]:
    rest = iter(runs)
    while piece := list(islice(rest, PIECE)):
        yield piece
