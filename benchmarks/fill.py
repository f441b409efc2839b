"""Fill a store by SQL with what millions of events leave behind.

One delivery is really taken in and attempted; its rows are the pattern. Each event has a key and a
random digest of its own (which is what scatters the unique index, and leaves its pages as full as
chance does); a job, done; and one attempt. Bodies are pruned by age, so only the newest events have
a delivery. Whatever column a later schema adds is copied from the pattern.
"""
# All names in the statements are our own.
# ruff: noqa: S608

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg

from benchmarks.command import note
from benchmarks.compared import idle_service
from benchmarks.databases import Database
from benchmarks.deliveries import Sender
from benchmarks.fetching import until
from benchmarks.load import closed_loop
from benchmarks.processes import HOST, refusing_port

CHUNK = 500_000
TABLES = ("events", "jobs", "attempts", "deliveries")
ENDED = {
    "status": "'done'",
    "claims": "1",
    "failures": "0",
    "waits": "0",
    "lease_token": "NULL",
    "lease_until": "NULL",
    "trying_since": "NULL",
    "ended_at": "created_at",
}
TRIED = {"outcome": "'done'", "detail": "'100 of 100 results stored'"}
NUMBERED = {
    "sqlite": "substr(key, 1, length(key) - 10) || printf('%010d', n)",
    "postgres": "left(key, -10) || lpad(n::text, 10, '0')",
}
RANDOM = {
    "sqlite": {"key_digest": "randomblob(16)", "digest": "randomblob(32)"},
    "postgres": {
        "key_digest": "decode(md5(random()::text || n), 'hex')",
        "digest": "sha256(int8send(n))",
    },
}


class FillError(Exception):
    """The store does not hold what it was filled with."""


@dataclass(frozen=True)
class Size:
    """Bytes that a table or an index takes."""

    name: str
    table: str
    megabytes: float
    bytes_per_row: float


def fill(database: Database, *, events: int, bodies: int) -> str:
    """Fill a new database; the path of the endpoint that its deliveries came to."""
    path = _pattern(database)
    ids = {name: database.number(f"SELECT max(id) FROM {name}") for name in TABLES}
    wanted = {**dict.fromkeys(TABLES, events), "deliveries": min(events, bodies)}
    columns = {table: _columns(database, table) for table in TABLES}  # while it can be read
    with _filling(database) as run:
        for table in TABLES:
            pattern = _pattern_of(table)
            values = _values(database.kind, table, ids)
            listed = ", ".join(columns[table])
            given = ", ".join(values.get(column, column) for column in columns[table])
            last = events + 1
            for start in range(last - wanted[table], last, CHUNK):
                numbers = _numbers(database.kind, start, min(start + CHUNK, last) - 1)
                run(
                    f"INSERT INTO {table} ({listed}) SELECT {given}"
                    f" FROM ({pattern}) AS pattern, {numbers}"
                )
            note(f"{wanted[table]:,} {table} filled")
    for table in TABLES:
        found = database.number(f"SELECT count(*) FROM {table} WHERE id > {ids[table]}")
        if found != wanted[table]:
            raise FillError(f"{table}: {found} rows, not {wanted[table]}")
    return path


def sizes(database: Database) -> list[Size]:
    """Return the size of each filled table and index, largest first."""
    found = []
    for name, table, size in database.rows(_SIZES[database.kind]):
        if table in TABLES:
            rows = max(1, database.number(f"SELECT count(*) FROM {table}"))
            found.append(Size(name, table, round(size / 1e6, 1), round(size / rows, 1)))
    return sorted(found, key=lambda size: (TABLES.index(size.table), -size.megabytes))


def end_jobs(database: Database) -> None:
    """Mark as done every job that a measurement left behind."""
    database.change("UPDATE jobs SET status = 'done' WHERE kind = 'fetch' AND status <> 'done'")
    if database.kind == "postgres":
        with psycopg.connect(database.url, autocommit=True) as driver:
            driver.execute("VACUUM jobs")


# --- inside -------------------------------------------------------------------------------------


def _pattern(database: Database) -> str:
    with refusing_port() as api:
        service = idle_service(database, api)
        path = service.endpoint()
        with service.serving() as (_, port):
            requests = Sender(path).requests(1)
            closed_loop([(HOST, port)], requests, connections=1, seconds=5.0)
            count = "SELECT count(*) FROM attempts JOIN jobs ON jobs.id = job_id WHERE event_id > 0"
            until(database, count, 1)
    return path


def _pattern_of(table: str) -> str:
    """The one row of a table that the one delivery has made."""
    of_event = "SELECT id FROM jobs WHERE event_id = (SELECT min(id) FROM events)"
    which = {
        "events": "id = (SELECT min(id) FROM events)",
        "jobs": f"id = ({of_event})",
        "attempts": f"id = (SELECT min(id) FROM attempts WHERE job_id = ({of_event}))",
        "deliveries": "id = (SELECT min(id) FROM deliveries)",
    }
    return f"SELECT * FROM {table} WHERE {which[table]}"


def _values(kind: str, table: str, ids: Mapping[str, int]) -> dict[str, str]:
    """Return the columns that differ from the pattern row; `n` numbers the events."""
    event = f"{ids['events']} + n"
    own = {"id": f"{ids[table]} + n"}
    if table == "events":
        digest = RANDOM[kind]["key_digest"]
        return {**own, "key": NUMBERED[kind], "key_digest": digest}
    if table == "jobs":
        return {**own, "event_id": event, **ENDED}
    if table == "attempts":
        return {**own, "job_id": f"{ids['jobs']} + n", **TRIED}
    return {**own, "event_id": event, "digest": RANDOM[kind]["digest"]}


def _columns(database: Database, table: str) -> list[str]:
    about = {
        "sqlite": f"SELECT name FROM pragma_table_info('{table}')",
        "postgres": "SELECT column_name FROM information_schema.columns"
        f" WHERE table_schema = current_schema() AND table_name = '{table}'",
    }
    return [name for (name,) in database.rows(about[database.kind])]


def _numbers(kind: str, first: int, last: int) -> str:
    if kind == "postgres":
        return f"generate_series({first}::bigint, {last}::bigint) AS numbers (n)"
    counted = f"SELECT {first} AS n UNION ALL SELECT n + 1 FROM counted WHERE n < {last}"
    return f"(WITH RECURSIVE counted AS ({counted}) SELECT n FROM counted)"


@contextmanager
def _filling(database: Database) -> Iterator[Any]:
    """Without a log and without syncs, for this is thrown away; then tidied up as time would."""
    if database.kind == "sqlite":
        with closing(sqlite3.connect(database.path, isolation_level=None)) as connection:
            for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -1500000"):
                connection.execute(f"PRAGMA {pragma}")
            connection.execute("BEGIN")
            yield connection.execute
            connection.execute("COMMIT")
            connection.execute("PRAGMA journal_mode = WAL")
        os.sync()  # else the system writes it out while others are measured
        return
    with psycopg.connect(database.url, autocommit=True) as driver:
        driver.execute("SET synchronous_commit = off")
        yield lambda statement: driver.execute(statement.encode())
        for table in TABLES:
            sequence = f"pg_get_serial_sequence('{table}', 'id')"
            moved = f"SELECT setval({sequence}, (SELECT max(id) FROM {table}))"
            driver.execute(moved.encode())
        driver.execute("VACUUM ANALYZE")
        driver.execute("CHECKPOINT")


_SIZES = {
    # not `aggregate = TRUE`, whose sums overflow at two gigabytes
    "sqlite": "SELECT dbstat.name, tbl_name, sum(pgsize) FROM dbstat"
    " JOIN sqlite_master USING (name) GROUP BY 1, 2",
    "postgres": "SELECT c.relname, coalesce(t.relname, c.relname),"
    " pg_relation_size(c.oid) + coalesce(pg_relation_size(nullif(c.reltoastrelid, 0)), 0)"
    " FROM pg_class c LEFT JOIN pg_index i ON i.indexrelid = c.oid"
    " LEFT JOIN pg_class t ON t.oid = i.indrelid"
    " WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'i')",
}
