"""Runs and the versions of their results. Old news changes nothing; newer news is appended."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, insert, select, update
from sqlmodel import col

from storage.fetched import TERMINAL, FetchedRun, clean
from storage.models import Result, Run


@dataclass(frozen=True, slots=True)
class Prepared:
    """A fetched run made ready for the tables: cleaned, digested, written as text.

    Made outside of the transaction, so that the writer's thread does not wait for it.
    """

    run: FetchedRun
    input: Any
    output: Any
    sources: Any
    error: str | None
    digest: bytes
    raw: str
    cleaned: bool


@dataclass(frozen=True, slots=True)
class Stored:
    """What a page changed: results new to us, further versions of known ones, and nothing."""

    new: int = 0
    versions: int = 0
    unchanged: int = 0


_NAMES = ("sender_status", "batch_id", "task_id", "runner", "output_type")


def prepare(run: FetchedRun) -> Prepared:
    """Clean and digest a run. `raw` keeps, escaped, what the cleaning took out.

    A run nested too deeply to be looked through is kept as well, in `raw` alone: it must not keep
    the others of its page from being stored.
    """
    try:
        return _prepared(run, [run.input, run.output, run.sources, run.error])
    except RecursionError:
        error = "nested too deeply for the columns: see raw"
        return replace(_prepared(run, [None, None, None, error]), cleaned=True)


def _prepared(run: FetchedRun, before: list[Any]) -> Prepared:
    names = {name: getattr(run, name) for name in _NAMES}
    after, known_as = [clean(value) for value in before], clean(names)
    content = json.dumps(
        [run.status, *(_without_queries(value) for value in after[1:])],
        sort_keys=True,
        separators=(",", ":"),
    )
    return Prepared(
        run=replace(run, **known_as),
        input=after[0],
        output=after[1],
        sources=after[2],
        error=after[3],
        digest=hashlib.sha256(content.encode()).digest(),
        raw=json.dumps(run.raw, separators=(",", ":")),
        cleaned=before != after or names != known_as,
    )


def store(
    connection: Connection,
    source: str,
    page: Sequence[Prepared],
    *,
    fetched_at: datetime,
    origin: str = "api",
    now: datetime,
) -> Stored:
    """Keep a page of runs, and the results of those that are at their end.

    `fetched_at` is when our fetch began. Of two results of one run the one with the later stamp
    of the sender, or where that does not tell the later fetch, is the current one; the same
    content again only fills in what its version lacked.
    """
    by_rank = sorted(page, key=lambda prepared: _RANK[prepared.run.status])
    page = list({prepared.run.run_id: prepared for prepared in by_rank}.values())
    known = _upsert_runs(connection, source, page, fetched_at)
    ended = [prepared for prepared in page if prepared.run.is_result]
    current = _current_results(connection, [known[prepared.run.run_id] for prepared in ended])
    new: list[dict[str, Any]] = []
    versions: list[dict[str, Any]] = []
    for prepared in ended:
        run_pk = known[prepared.run.run_id]
        before = current.get(run_pk)
        is_newer = before is not None and _is_newer(prepared.run, fetched_at, before)
        values = _values(prepared, run_pk, fetched_at=fetched_at, origin=origin, now=now)
        if before is None:
            new.append({**values, "version": 1})
        elif before.digest == prepared.digest:
            _enrich(connection, before, values, is_newer=is_newer)
        elif is_newer:
            versions.append({**values, "version": before.version + 1})
    _supersede(connection, [row["run_pk"] for row in versions])
    if new or versions:
        connection.execute(insert(Result), new + versions)
    return Stored(len(new), len(versions), len(page) - len(new) - len(versions))


def unseen(
    connection: Connection, source: str, batch_id: str, *, since: datetime, limit: int
) -> list[str]:
    """Runs of a batch that a complete listing begun at `since` left without a result.

    Either the listing did not name them, or it named them as ended without what they brought.
    """
    rows = connection.execute(
        select(col(Run.run_id))
        .outerjoin(Result, (col(Result.run_pk) == col(Run.id)) & col(Result.is_current))
        .where(
            col(Run.source) == source,
            col(Run.batch_id) == batch_id,
            col(Result.id).is_(None),
            col(Run.seen_at).is_(None) | (col(Run.seen_at) < since) | col(Run.status).in_(TERMINAL),
        )
        .order_by(col(Run.id))
        .limit(limit)
    )
    return [row.run_id for row in rows]


def has_result(connection: Connection, source: str, run_id: str) -> bool:
    """Whether the result of this run is stored."""
    found = connection.execute(
        select(col(Result.id))
        .join(Run, col(Run.id) == col(Result.run_pk))
        .where(col(Run.source) == source, col(Run.run_id) == run_id, col(Result.is_current))
    )
    return found.first() is not None


def is_run_of(connection: Connection, source: str, run_id: str, batch_id: str) -> bool:
    """Whether we know a run as one of this batch."""
    found = connection.execute(
        select(col(Run.id)).where(
            col(Run.source) == source, col(Run.run_id) == run_id, col(Run.batch_id) == batch_id
        )
    )
    return found.first() is not None


# --- inside -------------------------------------------------------------------------------------

_RANK = {"queued": 0, "running": 1, "completed": 2, "failed": 2, "cancelled": 2}


def _upsert_runs(
    connection: Connection, source: str, page: Sequence[Prepared], seen_at: datetime
) -> dict[str, int]:
    """Know the runs of a page; returns their keys. Terminal beats non-terminal."""
    if not page:
        return {}
    ids = [prepared.run.run_id for prepared in page]
    mine = select(Run).where(col(Run.source) == source, col(Run.run_id).in_(ids))
    before = {row.run_id: row for row in connection.execute(mine)}
    fresh = [prepared for prepared in page if prepared.run.run_id not in before]
    if fresh:
        rows = [
            {
                "source": source,
                "run_id": prepared.run.run_id,
                "created_at": prepared.run.created_at,
                "input": prepared.input,
                **_known(prepared.run, None, seen_at),
            }
            for prepared in fresh
        ]
        connection.execute(insert(Run), rows)
    changed = [
        {
            "pk": before[prepared.run.run_id].id,
            "created_at": before[prepared.run.run_id].created_at or prepared.run.created_at,
            "input": _richer(before[prepared.run.run_id].input, prepared.input),
            **_known(prepared.run, before[prepared.run.run_id], seen_at),
        }
        for prepared in page
        if prepared.run.run_id in before
    ]
    if changed:
        statement = update(Run).where(col(Run.id) == bindparam("pk"))
        names = [name for name in changed[0] if name != "pk"]
        connection.execute(statement.values({name: bindparam(name) for name in names}), changed)
    return {row.run_id: row.id for row in connection.execute(mine)}


def _known(run: FetchedRun, before: Row[Any] | None, seen_at: datetime) -> dict[str, Any]:
    """What a call told of a run, over what we knew; a later end is not undone by an older look."""
    if before is None:
        kept, status, sender_status = None, run.status, run.sender_status
    else:
        kept = before
        seen_later = before.seen_at is not None and before.seen_at > seen_at
        had_ended, has_ended = before.status in TERMINAL, run.status in TERMINAL
        older = seen_later if had_ended == has_ended else had_ended
        status = before.status if older else run.status
        sender_status = before.sender_status if older else run.sender_status
        seen_at = before.seen_at if seen_later else seen_at
    return {
        "status": status,
        "sender_status": sender_status,
        "batch_id": (kept and kept.batch_id) or run.batch_id,
        "task_id": run.task_id or (kept and kept.task_id),
        "runner": run.runner or (kept and kept.runner),
        "seen_at": seen_at,
    }


def _richer(before: dict[str, Any] | None, told: Any) -> Any:
    """Our own record of an input is whole; what the sender echoes only stands in for it."""
    return told if before is None else before


def _current_results(connection: Connection, run_pks: list[int]) -> dict[int, Row[Any]]:
    rows: Any = connection.execute(
        select(
            col(Result.id),
            col(Result.run_pk),
            col(Result.version),
            col(Result.digest),
            col(Result.cost),
            col(Result.output_type),
            col(Result.completed_at),
            col(Result.fetched_at),
            col(Result.raw),
            col(Result.origin),
        ).where(col(Result.run_pk).in_(run_pks), col(Result.is_current))
    )
    return {row.run_pk: row for row in rows}


def _is_newer(run: FetchedRun, fetched_at: datetime, before: Row[Any]) -> bool:
    stamps = run.completed_at, before.completed_at
    if None not in stamps and stamps[0] != stamps[1]:
        return bool(stamps[0] > stamps[1])
    return bool(fetched_at > before.fetched_at)


def _values(
    prepared: Prepared, run_pk: int, *, fetched_at: datetime, origin: str, now: datetime
) -> dict[str, Any]:
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
        "fetched_at": fetched_at,
        "stored_at": now,
        "origin": origin,
        "cleaned": prepared.cleaned,
        "raw": prepared.raw,
    }


def _enrich(
    connection: Connection, before: Row[Any], values: dict[str, Any], *, is_newer: bool
) -> None:
    """The same content told by another call: fill in what it adds, in the same version.

    The newer call has the last word on what both told, and its start outdates whatever other
    content was fetched before it.
    """
    told, kept = json.loads(values["raw"]), json.loads(before.raw)
    merged = {**kept, **told} if is_newer else {**told, **kept}
    update_of: dict[str, Any] = {}
    if merged != kept:
        update_of["raw"] = json.dumps(merged, separators=(",", ":"))
    if is_newer:
        update_of.update(origin=values["origin"], fetched_at=values["fetched_at"])
    for name in ("cost", "completed_at", "output_type"):
        if values[name] is not None and (is_newer or getattr(before, name) is None):
            update_of[name] = values[name]
    if update_of:
        connection.execute(update(Result).where(col(Result.id) == before.id).values(**update_of))


def _supersede(connection: Connection, run_pks: list[int]) -> None:
    if run_pks:
        connection.execute(
            update(Result)
            .where(col(Result.run_pk).in_(run_pks), col(Result.is_current))
            .values(is_current=False)
        )


def _without_queries(value: Any) -> Any:
    """Take the query strings out of URLs: signed ones differ at every call."""
    if isinstance(value, str):
        if value.startswith(("https://", "http://")) and " " not in value and "?" in value:
            return value.split("?", 1)[0]
        return value
    if isinstance(value, list):
        return [_without_queries(item) for item in value]
    if isinstance(value, dict):
        return {key: _without_queries(item) for key, item in value.items()}
    return value
