"""Rows for an export: read in short pages by key, all as of one moment.

Each page is a short read of its own, so that the write-ahead log can shrink during a long export.
The pages agree by a bound: the highest result id when the export began. Results are appended and
never rewritten, so that the versions current at that time can be found at any later time.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import ColumnElement, Select, Text, and_, cast, exists, func, literal, or_, select
from sqlalchemy.orm import aliased
from sqlmodel import col

from storage.database import Database
from storage.errors import ExportChanged
from storage.models import Result, Run
from storage.presigned_urls import without_signatures

PAGE_ROWS = 2_000
PAGE_CHARACTERS = 4 * 1024 * 1024
"""A page ends at either limit, so that giant results cannot fill the memory either."""

_FEW_AT_ONCE = {"stream_results": True, "max_row_buffer": 16}
"""Rows that the driver holds: results may be giant."""

OnProgress = Callable[[int], None]
Record = Sequence[Any]
RowPage = list[Record]


@dataclass(frozen=True)
class Selection:
    """Which results to export; a field that is None does not narrow.

    `batch_id` and `run_id` are the sender's, within `source` if that is given too. `status`
    "failed" means all that ended without completing: failed and cancelled. Raises ValueError for
    another status.
    """

    source: str | None = None
    batch_id: str | None = None
    status: Literal["all", "completed", "failed"] = "all"
    run_id: str | None = None

    def __post_init__(self) -> None:
        if self.status not in ("all", "completed", "failed"):
            raise ValueError(f"The status {self.status!r} is unknown: all, completed or failed.")

    def of_runs(self) -> Iterator[ColumnElement[bool]]:
        """Yield the conditions of the selected runs."""
        # An index has both columns, in order of the id. SQLite must not search an index by one of
        # them alone, hence the `|| ''`: every page would sort all runs that the search found.
        inner = self.batch_id if self.run_id is None else self.run_id
        searched = self.source is not None and inner is not None
        for column, wanted in (
            (col(Run.source), self.source),
            (col(Run.batch_id), self.batch_id),
            (col(Run.run_id), self.run_id),
        ):
            if wanted is not None:
                yield (column if searched else column + "") == wanted

    def of_results(self) -> Iterator[ColumnElement[bool]]:
        """Yield the conditions of the selected results."""
        completed = col(Result.status) == "completed"
        if self.status != "all":
            yield completed if self.status == "completed" else ~completed


@dataclass(frozen=True)
class Snapshot:
    """The selected results as they were when `take` was called; may be read several times."""

    database: Database
    selection: Selection
    bound: int
    taken_at: datetime

    @classmethod
    def take(cls, database: Database, selection: Selection) -> "Snapshot":
        """Take a snapshot of the results as they are now."""
        taken_at = database.now()
        with database.read() as connection:
            bound = connection.execute(select(func.max(col(Result.id)))).scalar_one()
        return cls(database, selection, bound or 0, taken_at)

    def pages(self, facts: Sequence[Any], documents: Sequence[Any]) -> Iterator[RowPage]:
        """Yield pages of rows (Run.id, facts..., documents as JSON text...) in order of Run.id.

        Results that were pruned are left out: as if whole, they would pass for empty ones. Raises
        ExportChanged where one was pruned since the moment of this snapshot.
        """
        texts = (cast(document, Text) for document in documents)
        pruned_at = col(Result.pruned_at)
        statement = (
            select(col(Run.id), *facts, *texts, pruned_at)
            .join(Result, col(Result.run_pk) == col(Run.id))
            .where(self._was_current(), *self.selection.of_runs(), *self.selection.of_results())
            .where(or_(pruned_at.is_(None), pruned_at >= self.taken_at))
            .order_by(col(Run.id))
        )
        after: int | None = 0
        while after is not None:
            page, after = self._page(statement, after, first=1 + len(facts))
            if page:
                yield page

    def _page(
        self, statement: Select[Any], after: int, *, first: int
    ) -> tuple[RowPage, int | None]:
        """Read the next rows; return them and the last run that was read, None after all runs."""
        page: RowPage = []
        characters = 0
        with self.database.read() as connection:
            ids = connection.scalars(self._next_runs(after)).all()
            if not ids:
                return page, None
            among = statement.where(col(Run.id).between(ids[0], ids[-1]))
            # Closed before the read ends: an open cursor would hold on to the log.
            with connection.execute(among, execution_options=_FEW_AT_ONCE) as rows:
                for *row, pruned_at in rows:
                    if pruned_at is not None:
                        raise ExportChanged("Results were pruned meanwhile: export again.")
                    page.append((*row[:first], *map(without_signatures, row[first:])))
                    characters += sum(map(len, filter(None, row[first:])))
                    if characters > PAGE_CHARACTERS:
                        return page, row[0]
        return page, ids[-1]

    def _next_runs(self, after: int) -> Select[int | None]:
        """Select the runs of a page.

        A query of its own bounds the join to one page, whichever plan SQLite makes for it.
        """
        return (
            select(col(Run.id))
            .where(col(Run.id) > after, *self.selection.of_runs())
            .order_by(col(Run.id))
            .limit(PAGE_ROWS)
        )

    def _was_current(self) -> ColumnElement[bool]:
        """Select the marked version or, where that came after the bound, the last one before it."""
        marked, later = aliased(Result), aliased(Result)
        replaced_since = exists(literal(1)).where(
            col(marked.run_pk) == col(Result.run_pk),
            col(marked.is_current),
            col(marked.id) > self.bound,
        )
        not_the_last = exists(literal(1)).where(
            col(later.run_pk) == col(Result.run_pk),
            col(later.version) > col(Result.version),
            col(later.id) <= self.bound,
        )
        return and_(
            # `+ 0`: a search by this id would read far more than a page.
            col(Result.id) + 0 <= self.bound,
            or_(col(Result.is_current), and_(replaced_since, ~not_the_last)),
        )


def pruned(selection: Selection) -> Select[int]:
    """Count, in SQL, the selected results whose content was pruned."""
    return (
        select(func.count())
        .select_from(Result)
        .join(Run, col(Run.id) == col(Result.run_pk))
        .where(
            col(Result.is_current),
            col(Result.pruned_at).is_not(None),
            *selection.of_runs(),
            *selection.of_results(),
        )
    )
