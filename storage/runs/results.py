"""Versions of results: older news changes nothing, newer news is appended."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    ColumnElement,
    Connection,
    Dialect,
    Executable,
    Row,
    bindparam,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.orm import aliased
from sqlalchemy.types import TypeDecorator, TypeEngine
from sqlmodel import col

from storage.database import statement
from storage.fetched import TERMINAL
from storage.models import JSON_DOCUMENT, KEY, FoundBy, Result, Run
from storage.runs import runs
from storage.runs.merges import Merge, is_newer, is_outranked, valid_merge
from storage.runs.rows import RunRow


@dataclass(frozen=True, slots=True)
class Stored:
    """Counts of what a page changed: results of runs that had none, further versions, the rest."""

    new: int = 0
    versions: int = 0
    unchanged: int = 0


@dataclass(frozen=True, slots=True)
class ResultPage:
    """The runs that one call brought, each once; `fetched_at` is when that call began.

    `found_by` is kept with the versions that the page adds; those that it confirms keep theirs.
    `merges` are those worked out before the transaction, by run id; they need not be complete.
    `decides` is True where an operator wants what the sender shows now as a new version, whatever
    its stamp or the stored digest says.
    """

    rows: Sequence[RunRow]
    fetched_at: datetime
    found_by: FoundBy
    origin: str = "api"
    merges: Mapping[str, Merge] = field(default_factory=dict)
    decides: bool = False


def store(
    connection: Connection, source: str, pages: Sequence[ResultPage], *, now: datetime
) -> list[Stored]:
    """Store the runs of pages, and the results of those that have ended; returns what each changed.

    Of all results of one run the newest by `is_newer` becomes the current one. The same content
    again only fills in what its version lacked. All pages take as few statements as one.
    """
    return [
        stored
        for part in _without_repeats(pages)
        for stored in _store(connection, source, part, now)
    ]


def _without_repeats(pages: Sequence[ResultPage]) -> Iterator[list[ResultPage]]:
    """Yield the pages in their order, in parts in which no run comes twice."""
    part: list[ResultPage] = []
    seen: set[str] = set()
    for page in pages:
        ids = {row.run.run_id for row in page.rows}
        if part and not seen.isdisjoint(ids):
            yield part
            part, seen = [], set()
        part.append(page)
        seen |= ids
    yield part


def _store(
    connection: Connection, source: str, pages: Sequence[ResultPage], now: datetime
) -> list[Stored]:
    given = {row.run.run_id: (row, page.fetched_at) for page in pages for row in page.rows}
    run_pks = runs.upsert(connection, source, given, now=now)
    results = [row.run.run_id for page in pages for row in page.rows if row.run.is_result]
    current = {
        found.run_pk: found
        for found in _current(connection, run_pks=[run_pks[run_id] for run_id in results])
    }
    changes = [_Changes(page) for page in pages]
    for change in changes:
        for row in change.page.rows:
            if row.run.is_result:
                run_pk = run_pks[row.run.run_id]
                change.add(connection, row, run_pk, current.get(run_pk), now)
        _confirm(connection, change.confirmed, change.page)
        runs.keep_ends(connection, change.outranked)
    new = [values for change in changes for values in change.new]
    versions = [values for change in changes for values in change.versions]
    _supersede(connection, [values["run_pk"] for values in versions])
    if new or versions:
        connection.execute(_INSERT, new + versions)
    return [change.stored for change in changes]


class _Changes:
    """The rows that a page adds, and the results that it confirms."""

    def __init__(self, page: ResultPage) -> None:
        self.page = page
        self.new: list[dict[str, Any]] = []
        self.versions: list[dict[str, Any]] = []
        self.confirmed: list[int] = []
        self.outranked: list[tuple[int, str]] = []

    def add(
        self,
        connection: Connection,
        row: RunRow,
        run_pk: int,
        before: Row[Any] | None,
        now: datetime,
    ) -> None:
        """Compare a result with the current one `before`, and fill that in where they are equal."""
        values = _values(row, run_pk, self.page, now)
        if before is None:
            self.new.append(values)
            return
        newer = self.page.decides or is_newer(row.run, self.page.fetched_at, before, now)
        if before.digest == row.digest and not self.page.decides:
            merge = valid_merge(connection, before, row, self.page.merges, newer=newer)
            _enrich(connection, before, values, merge, newer=newer)
            self.confirmed += [before.id] if newer else []
        elif newer:
            self.versions.append(values)
        elif row.run.status != before.status and is_outranked(row.run, before):
            self.outranked.append((run_pk, before.status))

    @property
    def stored(self) -> Stored:
        added = len(self.new), len(self.versions)
        return Stored(*added, len(self.page.rows) - sum(added))


def unseen(
    connection: Connection, source: str, batch_id: str, *, since: datetime | None, limit: int
) -> list[str]:
    """Return the runs of a batch that a listing left without the result of their end.

    These are the runs known to have ended of which no result, or that of another end, is stored;
    and, where `since` is the start of a complete listing, those without a result that it did not
    name.
    """
    has_ended = col(Run.status).in_(TERMINAL)
    is_left: ColumnElement[bool] = has_ended
    if since is not None:
        is_left |= col(Run.seen_at).is_(None) | (col(Run.seen_at) < since)
    rows = connection.execute(
        select(col(Run.run_id))
        .outerjoin(Result, (col(Result.run_pk) == col(Run.id)) & col(Result.is_current))
        .where(
            col(Run.source) == source,
            col(Run.batch_id) == batch_id,
            (col(Result.id).is_(None) & is_left)
            | (has_ended & (col(Result.status) != col(Run.status))),
        )
        .order_by(col(Run.id))
        .limit(limit)
    )
    return [row.run_id for row in rows]


# --- inside -------------------------------------------------------------------------------------


@statement
def _current(run_pks: Any) -> Executable:
    return select(
        col(Result.id),
        col(Result.run_pk),
        col(Result.status),
        col(Result.digest),
        col(Result.cost),
        col(Result.output_type),
        col(Result.completed_at),
        col(Result.fetched_at),
    ).where(col(Result.run_pk).in_(run_pks), col(Result.is_current))


def _values(row: RunRow, run_pk: int, page: ResultPage, now: datetime) -> dict[str, Any]:
    return {
        "run_pk": run_pk,
        "version_of": run_pk,
        "is_current": True,
        "digest": row.digest,
        "status": row.run.status,
        "output": row.output,
        "output_type": row.run.output_type,
        "sources": row.sources,
        "error": row.error,
        "cost": row.run.cost,
        "completed_at": row.run.completed_at,
        "fetched_at": page.fetched_at,
        "stored_at": now,
        "origin": page.origin,
        "found_by": page.found_by,
        "cleaned": row.cleaned,
        "raw": row.raw,
    }


def _enrich(
    connection: Connection,
    before: Row[Any],
    values: dict[str, Any],
    merge: Merge,
    *,
    newer: bool,
) -> None:
    """Fill in the columns that another call with the same content adds, in the same version."""
    added: dict[str, Any] = {}
    if merge.merged is not None:
        added["raw"] = merge.merged
    for name in ("cost", "completed_at", "output_type"):
        value, kept = values[name], getattr(before, name)
        if value is not None and value != kept and (newer or kept is None):
            added[name] = value
    if added:
        connection.execute(update(Result).where(col(Result.id) == before.id).values(**added))


def _confirm(connection: Connection, result_ids: list[int], page: ResultPage) -> None:
    """Date results by a newer call: other content that was fetched before it began is older."""
    if result_ids:
        connection.execute(
            update(Result)
            .where(col(Result.id).in_(result_ids))
            .values(origin=page.origin, fetched_at=page.fetched_at)
        )


def _supersede(connection: Connection, run_pks: list[int]) -> None:
    if run_pks:
        connection.execute(
            update(Result)
            .where(col(Result.run_pk).in_(run_pks), col(Result.is_current))
            .values(is_current=False)
        )


class _JsonText(TypeDecorator[Any]):
    """A JSON column whose parameter is JSON text already: the writer's thread encodes nothing."""

    impl = JSON
    cache_ok = True

    def __init__(self, of: TypeEngine[Any]) -> None:
        super().__init__()
        self.of = of

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return self.of.dialect_impl(dialect)

    def bind_processor(self, dialect: Dialect) -> None:
        return None


_earlier = aliased(Result)

_INSERT = insert(Result).values(
    # none of the earlier versions need be the current one, after changes by hand
    version=select(func.coalesce(func.max(col(_earlier.version)), 0) + 1)
    .where(col(_earlier.run_pk) == bindparam("version_of", type_=KEY))
    .scalar_subquery(),
    output=bindparam("output", type_=_JsonText(JSON_DOCUMENT)),
    sources=bindparam("sources", type_=_JsonText(JSON_DOCUMENT)),
)
