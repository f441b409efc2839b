"""Raw answers merged: a further call that brought the same content fills in what a result lacks.

Merges are worked out before the transaction that stores them, since raw answers are large and
the same runs are listed again and again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Executable, Row, select
from sqlmodel import col

from storage.clock import is_believed
from storage.database import statement
from storage.fetched import UNTYPED, FetchedRun
from storage.json_text import decoded, encoded
from storage.models import EMPTIED, Result, Run
from storage.runs.rows import RunRow

_NO_STAMP = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Merge:
    """The raw answer that a result gets from a further call with the same content.

    Valid while the result is as it was `seen`: (id, fetched_at, whether the call is newer).
    `merged` is None where the call adds nothing to `kept`.
    """

    seen: tuple[int, datetime, bool]
    kept: str
    merged: str | None


def current_results(
    connection: Connection, source: str, rows: Sequence[RunRow]
) -> dict[str, Row[Any]]:
    """Return the current results of these runs, by run id, with their raw answers."""
    ids = [row.run.run_id for row in rows if row.run.is_result]
    return {found.run_id: found for found in _current(connection, source=source, run_ids=ids)}


@statement
def _current(source: Any, run_ids: Any) -> Executable:
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
    rows: Sequence[RunRow],
    current: Mapping[str, Row[Any]],
    *,
    fetched_at: datetime,
    now: datetime,
) -> dict[str, Merge]:
    """Return the merges of these rows into the `current_results` of equal content, by run id."""
    same = [
        (row, current[row.run.run_id])
        for row in rows
        if row.run.run_id in current and current[row.run.run_id].digest == row.digest
    ]
    return {
        row.run.run_id: merge(row, before, newer=is_newer(row.run, fetched_at, before, now))
        for row, before in same
    }


def merge(row: RunRow, before: Row[Any], *, newer: bool) -> Merge:
    """Merge a row into the stored raw answer; where both have a key, the newer call wins."""
    seen, brought = (before.id, before.fetched_at, newer), row.run.raw
    if before.raw in (row.raw, EMPTIED):  # content that was pruned does not come back
        return Merge(seen, before.raw, None)
    try:
        kept = decoded(before.raw)
        text = encoded({**kept, **brought} if newer else {**kept, **_lacking(kept, brought)})
    except RecursionError:  # nested too deeply to be merged: the stored answer stays
        return Merge(seen, before.raw, None)
    return Merge(seen, before.raw, None if text == before.raw else text)


def valid_merge(
    connection: Connection,
    before: Row[Any],
    row: RunRow,
    known: Mapping[str, Merge],
    *,
    newer: bool,
) -> Merge:
    """Return the merge `known` from before, or a new one where the result has changed since."""
    earlier = known.get(row.run.run_id)
    is_valid = earlier is not None and earlier.seen == (before.id, before.fetched_at, newer)
    if earlier is not None and is_valid and earlier.merged is None:
        return earlier  # whatever was filled in since, this call still adds nothing
    stored: Any = connection.execute(
        select(col(Result.id), col(Result.fetched_at), col(Result.raw)).where(
            col(Result.id) == before.id
        )
    ).one()
    if earlier is not None and is_valid and earlier.kept == stored.raw:
        return earlier
    return merge(row, stored, newer=newer)


def is_newer(run: FetchedRun, fetched_at: datetime, before: Row[Any], now: datetime) -> bool:
    """Return True where a fetched run is newer than the stored result `before`.

    Whatever arrives in whatever order, the same result is the newest one: the sender's stamps
    decide, and one with a stamp is newer than one without, as two clocks cannot be compared. Where
    the stamps are equal, or neither has one, values with their types outdate values in text; then
    the starts of the fetches decide.
    """
    brought, kept = _rank(run), _rank(before)
    if brought != kept:
        return brought > kept
    return fetched_at > before.fetched_at or not is_believed(before.fetched_at, now)


def is_outranked(run: FetchedRun, before: Row[Any]) -> bool:
    """Return True for a run without a stamp where the stored result has one: no fetch is newer."""
    return run.completed_at is None and before.completed_at is not None


def _rank(result: FetchedRun | Row[Any]) -> tuple[datetime, bool]:
    return result.completed_at or _NO_STAMP, result.output_type != UNTYPED


def _lacking(kept: Mapping[str, Any], brought: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in brought.items() if name not in kept}
