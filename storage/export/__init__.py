"""Results out of the store: CSV, a JSON array, or JSON Lines, streamed in flat memory.

One row or object per run that has a result, in the order in which the runs became known, each in
the version that was current when the export began. Results whose content was pruned are left out
(`count_pruned`). What signs a URL (a signature, or a `token`, `policy` or `sig` that looks like a
secret) is replaced by `hidden`. `rows` reads, `csv` and `json` write.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO

from storage.database import Database
from storage.export import json
from storage.export.csv import CsvOptions, write_csv
from storage.export.gaps import Gaps, gaps, known_sources
from storage.export.json import KEYS, write_json, write_json_lines
from storage.export.rows import Selection, Snapshot, pruned

__all__ = [
    "FORMATS",
    "CsvOptions",
    "ExportReport",
    "ExportStore",
    "Gaps",
    "Selection",
]

FORMATS = ("csv", "json", "jsonl")


@dataclass(frozen=True)
class ExportReport:
    """The number of rows that were written, and the CSV header or the keys of each JSON object."""

    rows: int
    columns: tuple[str, ...]


class ExportStore:
    """The results of a database, on their way out."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def write(
        self,
        selection: Selection,
        format: str,
        out: IO[bytes],
        *,
        csv: CsvOptions | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> ExportReport:
        """Write the selected results to `out` and return what was written.

        The rows are those stored when the call begins; what is stored meanwhile is left for the
        next export. `csv` has the options of that format. `progress` is called after each page that
        was read, with the number of rows written so far: 0 while CSV is still looking for its
        columns. An error that it raises ends the export, and so do errors of `out`, unchanged:
        `out` then holds a part only.

        Raises ValueError for an unknown format, CannotStore when the database cannot be read, and
        ExportChanged when a run's input gained a column after the CSV header was settled, or a
        result was pruned meanwhile.
        """
        if format not in FORMATS:
            raise ValueError(f"The format {format!r} is unknown: use one of {', '.join(FORMATS)}.")
        report = progress or _silent
        snapshot = Snapshot.take(self._database, selection)
        if format == "csv":
            return ExportReport(*write_csv(snapshot, out, report, csv or CsvOptions()))
        write = write_json if format == "json" else write_json_lines
        return ExportReport(write(snapshot, out, report), KEYS)

    def json_lines(self, selection: Selection) -> Iterator[bytes]:
        """Yield the selected results as JSON Lines, in parts of whole lines, flat in memory.

        The call fixes what they are. No database connection is held between two parts, so the
        caller may be slow, and may stop. Raises CannotStore, also between two parts.
        """
        return json.json_lines(Snapshot.take(self._database, selection))

    def sources(self) -> list[str]:
        """Return the sources of which anything is stored, sorted by name."""
        return known_sources(self._database)

    def gaps(self, sources: Sequence[str]) -> Gaps:
        """Return what an export of these sources lacks.

        Read it before the results, so that no later ledger calls an export complete. It may take
        long where there are many single runs, in many short reads.
        """
        return gaps(self._database, sources)

    def count_pruned(self, selection: Selection) -> int:
        """Count the selected results that an export leaves out because their content was pruned."""
        query = pruned(selection)
        with self._database.read() as connection:
            return connection.execute(query).scalar_one()


def _silent(_rows: int) -> None:
    """Report to nobody."""
