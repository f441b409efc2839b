"""Restore a used database of Postgres, since a new copy takes many times as long."""

import time
from contextlib import closing
from typing import Any

import psycopg
from sqlmodel import SQLModel

import storage  # noqa: F401  its tables are known to SQLModel now

SHAPE = """
SELECT (SELECT array_agg((oid, xmin) ORDER BY oid) FROM pg_class WHERE oid >= 16384)::text,
       (SELECT array_agg((attrelid, attnum, xmin) ORDER BY attrelid, attnum)
          FROM pg_attribute WHERE attrelid >= 16384)::text,
       (SELECT array_agg((oid, xmin) ORDER BY oid) FROM pg_trigger)::text,
       (SELECT array_agg((oid, xmin) ORDER BY oid) FROM pg_constraint WHERE oid >= 16384)::text,
       (SELECT array_agg((oid, xmin) ORDER BY oid) FROM pg_proc WHERE oid >= 16384)::text,
       (SELECT array_agg((oid, xmin) ORDER BY oid) FROM pg_namespace)::text,
       (SELECT array_agg(setconfig) FROM pg_db_role_setting
          JOIN pg_database d ON d.oid = setdatabase WHERE datname = current_database())::text,
       (SELECT array_agg(version_num) FROM alembic_version)::text
"""
"""The catalogue, down to the transaction that wrote it: a copy has it of its original."""

OTHERS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""
ENDING_SECONDS = 2.0
"""Seconds for which a connection that was closed may still be listed."""

KEPT = "SELECT key, value FROM meta ORDER BY key"
FROM_ONE = """
SELECT setval(oid::regclass, 1, false) FROM pg_class WHERE relkind = 'S' AND oid >= 16384
"""


class Original:
    """The state of a database that has just been made, at the URL `url`."""

    def __init__(self, url: str) -> None:
        with closing(psycopg.connect(url)) as connection:
            self._shape = connection.execute(SHAPE).fetchone()
            self._kept = connection.execute(KEPT).fetchall()
        tables = [table.name for table in reversed(SQLModel.metadata.sorted_tables)]
        names = [name for name in tables if name != "meta"]
        self._empty = "; ".join(f"DELETE FROM {name}" for name in names)  # noqa: S608  our own

    def is_restored(self, url: str) -> bool:
        """Empty a copy of it; return False where that is not enough.

        It is not where more than rows was changed, nor where a connection is still open: what a
        test has left behind would write to the next one's.
        """
        try:
            with closing(psycopg.connect(url, autocommit=True)) as connection:
                return self._is_restored(connection)
        except psycopg.Error:  # it is broken, or somebody holds it
            return False

    def _is_restored(self, connection: psycopg.Connection[Any]) -> bool:
        connection.execute("SET lock_timeout = '1s'")
        if not _is_alone(connection) or connection.execute(SHAPE).fetchone() != self._shape:
            return False
        connection.execute(self._empty.encode())
        names = [key for key, _ in self._kept]
        connection.execute("DELETE FROM meta WHERE key <> ALL (%s)", [names])
        connection.execute(FROM_ONE)
        return connection.execute(KEPT).fetchall() == self._kept


def _is_alone(connection: psycopg.Connection[Any]) -> bool:
    until = time.monotonic() + ENDING_SECONDS
    while (others := connection.execute(OTHERS).fetchone()) != (0,) and time.monotonic() < until:
        time.sleep(0.01)
    return others == (0,)
