"""A real PgBouncer before a Postgres server; tests that need one skip where it is missing."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sqlalchemy.engine import make_url

from tests.processes import DEADLINE, HOST, free_port, until

SBIN = "/usr/sbin"
"""Where Debian installs it, which is not in everybody's PATH."""


class PgBouncer:
    """A pooler on one port, however often it is started, before the server that `url` names."""

    def __init__(self, url: str, folder: Path, *, mode: str = "transaction", **more: str) -> None:
        self._program = _program()
        self.port = free_port()
        self.log = folder / "pgbouncer.log"
        server = conninfo_to_dict(url)
        self._user = _owner(str(server.get("host", "")))
        named = ("host", "port", "user", "password")
        kept = {name: str(server[name]) for name in named if name in server}
        settings = {
            "listen_addr": HOST,
            "listen_port": str(self.port),
            "unix_socket_dir": "",
            "auth_type": "any",
            "pool_mode": mode,
            **more,
        }
        self._config = folder / "pgbouncer.ini"
        lines = [f"{name} = {value}" for name, value in settings.items()]
        self._config.write_text(
            "\n".join(["[databases]", f"* = {make_conninfo(**kept)}", "[pgbouncer]", *lines, ""])
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return once it takes connections."""
        user = ["-u", self._user] if os.geteuid() == 0 else []
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603  the pooler's own program
                [self._program, "-q", *user, str(self._config)], stdout=log, stderr=log
            )
        until(self._is_up)

    def _is_up(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text()
        with suppress(OSError), closing(socket.create_connection((HOST, self.port), timeout=5)):
            return True
        return False

    def stop(self) -> None:
        """End it at once, with all connections."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(DEADLINE)
            self._process = None

    def url(self, url: str) -> str:
        """Return the URL of the database at `url`, through the pooler."""
        through = make_url(url).set(host=HOST, port=self.port, query={})
        return through.render_as_string(hide_password=False)


@contextmanager
def pooled(url: str, folder: Path, *, mode: str = "transaction", **more: str) -> Iterator[str]:
    """Yield the URL of the database at `url` through a pooler, which runs during the block."""
    pooler = PgBouncer(url, folder, mode=mode, **more)
    try:
        pooler.start()
        yield pooler.url(url)
    finally:
        pooler.stop()


def _program() -> str:
    found = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:{SBIN}")
    if found is None:
        pytest.skip("there is no PgBouncer here: install the package pgbouncer")
    return found


def _owner(host: str) -> str:
    """Return a user who may reach the server, as root may not run a pooler."""
    return Path(host).owner() if host.startswith("/") else "nobody"
