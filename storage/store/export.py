"""Results out."""

from collections.abc import Callable, Iterator
from typing import IO

from storage import (
    export,
)
from storage.store.base import Base


class Reading(Base):
    """Results out."""

    def json_lines(self, selection: export.Selection) -> Iterator[bytes]:
        """The selected results as they are now, as pieces of JSON Lines; may take its time."""
        return export.json_lines(self.database, selection)

    def count_pruned(self, selection: export.Selection) -> int:
        """How many of the selected results an export leaves out, for their content was pruned."""
        return export.count_pruned(self.database, selection)

    def export(
        self,
        selection: export.Selection,
        format: str,
        out: IO[bytes],
        *,
        formula_guard: bool = True,
        progress: Callable[[int], None] | None = None,
    ) -> export.ExportReport:
        """Write the selected current results to `out` as a stream."""
        return export.export(
            self.database,
            selection,
            format,
            out,
            formula_guard=formula_guard,
            progress=progress,
        )
