"""The versions of results. Old news changes nothing; newer news is appended."""

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
    insert,
    select,
    update,
)
from sqlalchemy.types import TypeDecorator, TypeEngine
from sqlmodel import col

from storage.clock import is_believed
from storage.database import statement
from storage.fetched import TERMINAL, FetchedRun
from storage.json_text import decoded, encoded
from storage.models import EMPTIED, JSON_DOCUMENT, ORDERED_DOCUMENT, Result, Run
from storage.runs import runs
from storage.runs.rows import Prepared


@dataclass(frozen=True, slots=True)
class Stored:
    """What a page changed: results new to us, further versions of known ones, and nothing."""

    new: int = 0
    versions: int = 0
    unchanged: int = 0


@dataclass(frozen=True, slots=True)
class Merge:
    """What the raw answer of a result becomes by a further call that told the same content.

    Good as long as the result is as it was `seen`: (id, fetched_at, whether the call is newer).
    `merged` is None where the call adds nothing.
    """

    seen: tuple[int, datetime, bool]
    kept: str
    merged: str | None


@dataclass(frozen=True, slots=True)
class Page:
    """What one call told of runs, each of them once; `fetched_at` is when that call began.

    `merges` are what `look` and `merges` have worked out before, as far as they are good.
    """

    runs: Sequence[Prepared]
    fetched_at: datetime
    origin: str = "api"
    merges: Mapping[str, Merge] = field(default_factory=dict)


def store(
    connection: Connection,
    source: str,
    page: Sequence[Prepared],
    *,
    fetched_at: datetime,
    origin: str = "api",
    merges: Mapping[str, Merge] | None = None,
    now: datetime,
) -> Stored:
    """Keep a page of runs (each of them once), and the results of those that are at their end.

    `fetched_at` is when our fetch began. Of two results of one run the one with the later stamp
    of the sender, or where that does not tell the later fetch, is the current one; the same
    content again only fills in what its version lacked, by `merges` where they are given and good.
    """
    told = Page(page, fetched_at, origin, merges or {})
    (stored,) = store_pages(connection, source, [told], now=now)
    return stored


def store_pages(
    connection: Connection, source: str, pages: Sequence[Page], *, now: datetime
) -> list[Stored]:
    """The same for many pages, by as few statements as for one; returns what each changed."""
    return [
        stored
        for part in _without_repeats(pages)
        for stored in _store_pages(connection, source, part, now)
    ]


def _without_repeats(pages: Sequence[Page]) -> Iterator[list[Page]]:
    """The pages in their order, in parts in which no run comes twice."""
    part: list[Page] = []
    seen: set[str] = set()
    for page in pages:
        ids = {prepared.run.run_id for prepared in page.runs}
        if part and not seen.isdisjoint(ids):
            yield part
            part, seen = [], set()
        part.append(page)
        seen |= ids
    yield part


def _store_pages(
    connection: Connection, source: str, pages: Sequence[Page], now: datetime
) -> list[Stored]:
    told = {run.run.run_id: (run, page.fetched_at) for page in pages for run in page.runs}
    known = runs.upsert(connection, source, told, now=now)
    run_pks = [known[run.run.run_id] for page in pages for run in page.runs if run.run.is_result]
    current = _current_results(connection, run_pks)
    new: list[dict[str, Any]] = []
    versions: list[dict[str, Any]] = []
    outcomes: list[Stored] = []
    for page in pages:
        before_page = len(new), len(versions)
        confirmed: list[int] = []
        for prepared in page.runs:
            if not prepared.run.is_result:
                continue
            run_pk = known[prepared.run.run_id]
            before = current.get(run_pk)
            is_newer = before is not None and _is_newer(prepared.run, page.fetched_at, before, now)
            values = _values(prepared, run_pk, page, now)
            if before is None:
                new.append({**values, "version": 1})
            elif before.digest == prepared.digest:
                merge = _good_merge(connection, before, prepared, page.merges, is_newer=is_newer)
                _enrich(connection, before, values, merge, is_newer=is_newer)
                confirmed += [before.id] if is_newer else []
            elif is_newer:
                versions.append({**values, "version": before.version + 1})
        _confirm(connection, confirmed, page)
        added = len(new) - before_page[0], len(versions) - before_page[1]
        outcomes.append(Stored(*added, len(page.runs) - sum(added)))
    _supersede(connection, [row["run_pk"] for row in versions])
    if new or versions:
        connection.execute(_INSERT, new + versions)
    return outcomes


def look(connection: Connection, source: str, page: Sequence[Prepared]) -> dict[str, Row[Any]]:
    """The current results of these runs with their raw answers, for `merges`."""
    ids = [prepared.run.run_id for prepared in page if prepared.run.is_result]
    rows = _look(connection, source=source, run_ids=ids)
    return {row.run_id: row for row in rows}


@statement
def _look(source: Any, run_ids: Any) -> Executable:
    return (
        select(
            col(Run.run_id),
            col(Result.id),
            col(Result.status),
            col(Result.digest),
            col(Result.output_type),
            col(Result.completed_at),
            col(Result.fetched_at),
            col(Result.raw),
        )
        .join(Result, col(Result.run_pk) == col(Run.id))
        .where(col(Run.source) == source, col(Run.run_id).in_(run_ids), col(Result.is_current))
    )


def merges(
    page: Sequence[Prepared],
    found: Mapping[str, Row[Any]],
    *,
    fetched_at: datetime,
    now: datetime,
) -> dict[str, Merge]:
    """What `store` would do to the raw answers of the results that `look` found.

    Worked out outside of the transaction: raw answers are large, and listed again and again.
    """
    same = [
        (prepared, found[prepared.run.run_id])
        for prepared in page
        if prepared.run.run_id in found and found[prepared.run.run_id].digest == prepared.digest
    ]
    return {
        prepared.run.run_id: _merge(
            prepared, before, is_newer=_is_newer(prepared.run, fetched_at, before, now)
        )
        for prepared, before in same
    }


def unseen(
    connection: Connection, source: str, batch_id: str, *, since: datetime | None, limit: int
) -> list[str]:
    """Runs of a batch that a listing left without the result of their end.

    They are known to have ended, but not what they brought: nothing is here, or the result of
    another end. Or a complete listing, begun at `since`, did not name them, and nothing is here.
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


def _current_results(connection: Connection, run_pks: list[int]) -> dict[int, Row[Any]]:
    return {row.run_pk: row for row in _current(connection, run_pks=run_pks)}


@statement
def _current(run_pks: Any) -> Executable:
    return select(
        col(Result.id),
        col(Result.run_pk),
        col(Result.version),
        col(Result.status),
        col(Result.digest),
        col(Result.cost),
        col(Result.output_type),
        col(Result.completed_at),
        col(Result.fetched_at),
    ).where(col(Result.run_pk).in_(run_pks), col(Result.is_current))


def _is_newer(run: FetchedRun, fetched_at: datetime, before: Row[Any], now: datetime) -> bool:
    is_same_kind = run.is_typed or run.output_type == before.output_type
    if run.status == before.status and not is_same_kind:  # what is here knows the types too
        return False
    stamps = run.completed_at, before.completed_at
    if None not in stamps and stamps[0] != stamps[1]:
        return bool(stamps[0] > stamps[1])
    return fetched_at > before.fetched_at or not is_believed(before.fetched_at, now)


def _values(prepared: Prepared, run_pk: int, page: Page, now: datetime) -> dict[str, Any]:
    run = prepared.run
    return {
        "run_pk": run_pk,
        "is_current": True,
        "digest": prepared.digest,
        "status": run.status,
        "output": prepared.output,
        "output_type": run.output_type,
        "sources": prepared.sources,
        "error": prepared.error,
        "cost": run.cost,
        "completed_at": run.completed_at,
        "fetched_at": page.fetched_at,
        "stored_at": now,
        "origin": page.origin,
        "cleaned": prepared.cleaned,
        "raw": prepared.raw,
    }


def _merge(prepared: Prepared, before: Row[Any], *, is_newer: bool) -> Merge:
    """The newer call has the last word on what both told."""
    seen, told = (before.id, before.fetched_at, is_newer), prepared.run.raw
    if before.raw in (prepared.raw, EMPTIED):  # what was let go of does not come back
        return Merge(seen, before.raw, None)
    try:
        kept = decoded(before.raw)
        text = encoded({**kept, **told} if is_newer else {**kept, **_lacking(kept, told)})
    except RecursionError:  # nested too deeply to be put together: what is kept stays
        return Merge(seen, before.raw, None)
    return Merge(seen, before.raw, None if text == before.raw else text)


def _good_merge(
    connection: Connection,
    before: Row[Any],
    prepared: Prepared,
    merges: Mapping[str, Merge],
    *,
    is_newer: bool,
) -> Merge:
    """The merge that was worked out before, or another where the result has changed since."""
    merge = merges.get(prepared.run.run_id)
    is_good = merge is not None and merge.seen == (before.id, before.fetched_at, is_newer)
    if merge is not None and is_good and merge.merged is None:
        return merge  # what was filled in since takes nothing away
    result: Any = connection.execute(
        select(col(Result.id), col(Result.fetched_at), col(Result.raw)).where(
            col(Result.id) == before.id
        )
    ).one()
    if merge is not None and is_good and merge.kept == result.raw:
        return merge
    return _merge(prepared, result, is_newer=is_newer)


def _enrich(
    connection: Connection,
    before: Row[Any],
    values: dict[str, Any],
    merge: Merge,
    *,
    is_newer: bool,
) -> None:
    """The same content told by another call: fill in what it adds, in the same version."""
    update_of: dict[str, Any] = {}
    if merge.merged is not None:
        update_of["raw"] = merge.merged
    for name in ("cost", "completed_at", "output_type"):
        told, kept = values[name], getattr(before, name)
        if told is not None and told != kept and (is_newer or kept is None):
            update_of[name] = told
    if update_of:
        connection.execute(update(Result).where(col(Result.id) == before.id).values(**update_of))


def _confirm(connection: Connection, result_ids: list[int], page: Page) -> None:
    """The start of a newer call outdates whatever other content was fetched before it."""
    if result_ids:
        connection.execute(
            update(Result)
            .where(col(Result.id).in_(result_ids))
            .values(origin=page.origin, fetched_at=page.fetched_at)
        )


def _lacking(kept: Mapping[str, Any], told: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in told.items() if name not in kept}


def _supersede(connection: Connection, run_pks: list[int]) -> None:
    if run_pks:
        connection.execute(
            update(Result)
            .where(col(Result.run_pk).in_(run_pks), col(Result.is_current))
            .values(is_current=False)
        )


class _Written(TypeDecorator[Any]):
    """A JSON column's parameter that is text already: the writer's thread need not encode it."""

    impl = JSON
    cache_ok = True

    def __init__(self, of: TypeEngine[Any]) -> None:
        super().__init__()
        self.of = of

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return self.of.dialect_impl(dialect)

    def bind_processor(self, dialect: Dialect) -> None:
        return None


_INSERT = insert(Result).values(
    output=bindparam("output", type_=_Written(ORDERED_DOCUMENT)),
    sources=bindparam("sources", type_=_Written(JSON_DOCUMENT)),
)
