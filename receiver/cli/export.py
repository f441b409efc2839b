"""resultsink export: stored results as a file or a stream."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from receiver.cli.opening import existing_store
from receiver.cli.output import say
from receiver.errors import UsageError

if TYPE_CHECKING:
    from storage import Ledger, Store


class Format(StrEnum):
    """Formats of an export."""

    csv = "csv"
    json = "json"
    jsonl = "jsonl"


class Status(StrEnum):
    """Results that an export may be limited to."""

    all = "all"
    completed = "completed"
    failed = "failed"


def export(
    batch: Annotated[str | None, typer.Option(help="Only this batch.")] = None,
    source: Annotated[str | None, typer.Option(help="Only this source.")] = None,
    format_: Annotated[Format, typer.Option("--format", help="csv, json or jsonl.")] = Format.csv,
    output: Annotated[Path | None, typer.Option(help="A file; standard output without.")] = None,
    status: Annotated[Status, typer.Option(help="all, completed or failed.")] = Status.all,
    formula_guard: Annotated[
        bool, typer.Option(help="Quote CSV text that a spreadsheet would run.")
    ] = True,
) -> None:
    """Write the stored results of a batch or a source, and say so if they are not complete."""
    from storage import Selection

    if batch is None and source is None:
        raise UsageError("Say what to export: --batch BATCH_ID or --source SOURCE.")
    with existing_store() as store:
        ledgers = _ledgers(store, batch, source)
        outstanding = store.runs.count_outstanding(source) if source and not batch else 0
        selection = Selection(
            source=ledgers[0].source if batch else source, batch_id=batch, status=status.value
        )
        with _target(output) as out:
            report = store.export.write(selection, format_.value, out, formula_guard=formula_guard)
        pruned = store.export.count_pruned(selection)
    where = f" to {output}" if output else ""
    say(f"{report.rows} results written{where}.")
    if pruned:
        say(f"{pruned} more are left out: their content was pruned for its age.")
    for ledger in ledgers:
        if ledger.state != "complete":
            say(
                f"Batch {ledger.batch_id} is not complete: "
                f"{ledger.stored} of {ledger.expected} results are stored."
            )
    if outstanding:
        say(
            f"Source {source} is not complete: {outstanding} single runs have no result "
            "(see `endpoint list` and `dead list`)."
        )


def _ledgers(store: Store, batch: str | None, source: str | None) -> list[Ledger]:
    """Return the ledger of a batch, or those of a source.

    Read before the results, so that no later ledger calls an export complete.
    """
    if batch is not None:
        return [store.batches.ledger(batch, source=source)]
    ledgers = store.batches.list_newest(source=source, limit=sys.maxsize)
    if not ledgers and not (
        source and store.endpoints.has_any(source)
    ):  # single runs have no batch
        raise UsageError(f"Nothing is known of source {source}: see `endpoint list`.")
    return ledgers


@contextmanager
def _target(path: Path | None) -> Iterator[IO[bytes]]:
    """Open standard output, or a file that gets its name only when it is whole."""
    if path is None:
        try:
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        except BrokenPipeError:  # the reader has enough
            raise
        except OSError as error:
            raise UsageError(f"Standard output cannot be written: {error.strerror}.") from error
        return
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.") from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except OSError as error:
        os.unlink(name)
        raise UsageError(f"{path} cannot be written: {error.strerror}.") from error
    except BaseException:
        os.unlink(name)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
