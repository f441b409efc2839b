"""A whole database copied into another, of either kind: all or nothing, verified, and not served.

Rows go one by one from the source into one transaction of the target, digested on their way. Before
that transaction is committed, the rows of the target are read back, and their digests compared.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Table, select
from sqlmodel import SQLModel, col

from storage import migrations
from storage.copying.keys import ENCRYPTED, CopyKeys
from storage.copying.sides import Row, Side
from storage.copying.sqlite import SqliteSide
from storage.copying.values import Cleaner, Digest
from storage.database import DEFAULT_SCHEMA, kind_of, need_psycopg, probe
from storage.errors import AlreadyServed, CannotOpen, CopyFailed, NewerSchema, NoDatabase
from storage.models import SERVING, Job, Meta

PROGRESS_ROWS = 100
"""Rows between two calls of `progressed`."""

Progressed = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Copied:
    """A table that was copied; `cleaned` counts the values that were changed on the way."""

    table: str
    rows: int
    cleaned: int


@dataclass(frozen=True, slots=True)
class CopyReport:
    """The outcome of a copy. `key_file` has the target's key; None where keys were given.

    `is_key_beside` is True where the target finds this file by itself. The target's first worker
    takes the `running` jobs over when their leases run out.
    """

    source: str
    target: str
    tables: tuple[Copied, ...]
    running: int
    key_file: Path | None
    is_key_beside: bool


def copy(
    source_url: str,
    target_url: str,
    keys: Sequence[str] = (),
    *,
    schema: str = DEFAULT_SCHEMA,
    progressed: Progressed = lambda step, done, total: None,
) -> CopyReport:
    """Copy everything from one database into another, which is empty or has no tables yet.

    On Postgres everything is in `schema`. `progressed(step, done, total)` is called every
    PROGRESS_ROWS rows, both while they are written and while they are read back. Raises CannotOpen
    or one of its kinds where it refuses, CopyFailed where it fails; the target is unchanged then,
    and the source is never changed.
    """
    with closing(_side(source_url, schema)) as source, closing(_side(target_url, schema)) as target:
        _refuse_the_same(source, target)
        _refuse_as_source(source)
        is_new = _refuse_as_target(target)
        given = CopyKeys(source, target, keys)
        tables = SQLModel.metadata.sorted_tables
        with source.transaction(tables, fills=False):
            given.check_source(_own(source).get("canary"))
            with target.transaction(tables, fills=True):
                own = _refuse_a_full(target, tables)
                given.settle(target, own.get("canary"), is_new=is_new)
                run = _CopyRun(source, target, given, progressed)
                return run.all(tables)


def _side(url: str, schema: str) -> Side:
    if kind_of(url) == "sqlite":
        return SqliteSide(url)
    try:
        need_psycopg()
        from storage.copying.postgres import PostgresSide  # an extra: loaded where it is needed
    except ImportError as error:
        raise CannotOpen(
            "Postgres needs the extra of that name: pip install 'resultsink[postgres]'."
        ) from error
    return PostgresSide(url, schema)


# --- refusing -----------------------------------------------------------------------------------


def _refuse_the_same(source: Side, target: Side) -> None:
    if source.identity == target.identity:
        raise CannotOpen(
            f"Source and target are the same database, {source.name}: name an empty one as target."
        )


def _refuse_as_source(source: Side) -> None:
    revision = source.revision()
    if revision is None:
        raise NoDatabase(
            f"There is no database {source.name} to copy: look at the source's URL, or "
            "run `resultsink db upgrade` with it if an earlier version made it."
        )
    _refuse_another_schema(source, revision)
    _claim(source, "stop `resultsink serve`, and start it again on the target when this has ended")


def _refuse_as_target(target: Side) -> bool:
    """Return True where the target has no tables yet."""
    revision = target.revision()
    if revision is not None:
        _refuse_another_schema(target, revision)
    _claim(target, "stop `resultsink serve` there, or name another database as target")
    return revision is None


def _refuse_another_schema(side: Side, revision: str) -> None:
    if revision > migrations.HEAD:
        raise NewerSchema(
            f"The database {side.name} has schema {revision}, which this version (schema "
            f"{migrations.HEAD}) does not know: install the newer resultsink again."
        )
    if revision < migrations.HEAD:
        raise CannotOpen(
            f"The database {side.name} has schema {revision}, and this version needs "
            f"{migrations.HEAD}: run `resultsink db upgrade` with it as RESULTSINK_DATABASE_URL."
        )


def _claim(side: Side, what_to_do: str) -> None:
    if not side.claim():
        raise AlreadyServed(f"The database {side.name} is served now: {what_to_do}.")


def _refuse_a_full(target: Side, tables: Iterable[Table]) -> dict[str, str]:
    """Raise CannotOpen where the target has rows; returns those of `meta` that are its own."""
    own = _own(target)
    for table in tables:
        if target.count(table) > (len(own) if table.name == "meta" else 0):
            raise CannotOpen(
                f"The target {target.name} is not empty, it has rows in {table.name}: "
                "name an empty database."
            )
    return own


def _own(side: Side) -> dict[str, str]:
    rows = side.connection.execute(select(col(Meta.key), col(Meta.value)))
    return {row.key: row.value for row in rows if _is_own(row.key)}


def _is_own(key: str) -> bool:
    """Return True for the keys of `meta` that each database has for itself."""
    return key == "canary" or key.startswith((probe.PREFIX, SERVING))


# --- copying ------------------------------------------------------------------------------------


class _CopyRun:
    """One copy, within both transactions."""

    def __init__(self, source: Side, target: Side, keys: CopyKeys, progressed: Progressed) -> None:
        self._source = source
        self._target = target
        self._keys = keys
        self._progressed = progressed
        self._done = self._total = 0

    def all(self, tables: Sequence[Table]) -> CopyReport:
        counts = {table.name: self._source.count(table) for table in tables}
        counts["meta"] -= len(_own(self._source))
        self._total = 2 * sum(counts.values())
        meta = SQLModel.metadata.tables["meta"]
        self._target.connection.execute(meta.delete())
        copied = tuple(self._one(table, counts[table.name]) for table in tables)
        self._target.connection.execute(
            meta.insert().values(key="canary", value=self._keys.canary())
        )
        self._target.settle(tables)
        jobs = SQLModel.metadata.tables["jobs"]
        running = select(jobs.c.id).where(col(Job.status) == "running").subquery()
        return CopyReport(
            self._source.name,
            self._target.name,
            copied,
            self._target.count(running),
            self._keys.file,
            isinstance(self._target, SqliteSide) and self._keys.file is not None,
        )

    def _one(self, table: Table, expected: int) -> Copied:
        cleaner = Cleaner(table)
        read = Digest(table, {ENCRYPTED: self._keys.open})
        with closing(self._source.rows(table)) as rows:
            ours = self._counted(f"copying {table.name}", _shared(table, rows))
            self._target.insert(table, self._encrypted(table, read.seen(cleaner.cleaned(ours))))
        written = Digest(table, {ENCRYPTED: self._keys.open_copied})
        with closing(self._target.rows(table)) as rows:
            for row in self._counted(f"verifying {table.name}", rows):
                written.add(row)
        if read.count != expected:
            raise CopyFailed(
                f"The source has {expected} rows in {table.name}, of which {read.count} were read: "
                "nothing was kept in the target."
            )
        if (written.count, written.value) != (read.count, read.value):
            raise CopyFailed(
                f"The rows in {table.name} read back are not what was copied ({read.count} went "
                f"in, {written.count} came back): nothing was kept in the target."
            )
        return Copied(table.name, read.count, cleaner.count)

    def _encrypted(self, table: Table, rows: Iterator[Row]) -> Iterator[Row]:
        if ENCRYPTED not in table.columns:
            return rows
        at = list(table.columns.keys()).index(ENCRYPTED)
        return ((*row[:at], self._keys.again(row[at]), *row[at + 1 :]) for row in rows)

    def _counted(self, step: str, rows: Iterator[Row]) -> Iterator[Row]:
        self._progressed(step, self._done, self._total)
        for row in rows:
            yield row
            self._done += 1
            if self._done % PROGRESS_ROWS == 0:
                self._progressed(step, self._done, self._total)


def _shared(table: Table, rows: Iterator[Row]) -> Iterator[Row]:
    """Yield the rows without those that each database has for itself."""
    return (row for row in rows if not _is_own(row[0])) if table.name == "meta" else rows
