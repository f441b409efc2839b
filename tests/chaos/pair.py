"""Two servers, a primary and its synchronous standby, which takes its place."""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

from tests.chaos.postgres import IMMEDIATE, Server
from tests.processes import HOST

SYNCHRONOUS = "ALTER SYSTEM SET synchronous_standby_names = '*'"
READ_ONLY = "ALTER SYSTEM SET default_transaction_read_only = on"
RELOAD = "SELECT pg_reload_conf()"
PROMOTE = "SELECT pg_promote()"

IN_FLIGHT_SECONDS = 0.3
"""For so long what began before a primary became read-only may still be committed there."""


class Standby(Server):
    """A copy of another server, which it follows."""

    def __init__(self, primary: Server) -> None:
        self._primary = primary
        super().__init__()

    def _fill(self) -> None:
        source = self._primary.url("postgres")
        how = ["--write-recovery-conf", "--checkpoint=fast", "--no-sync"]
        self._run("pg_basebackup", *how, "-D", str(self._data), "-d", source)


class Pair:
    """A primary, which acknowledges what its standby has, too."""

    def __init__(self, primary: Server, standby: Standby) -> None:
        self.primary = primary
        self.standby = standby

    def url(self, database: str, options: str = "") -> str:
        """Return the URL of a database at both, as libpq takes it."""
        ports = f"{HOST}:{self.primary.port},{HOST}:{self.standby.port}"
        return f"postgresql://postgres@{ports}/{database}{options}"

    def books_url(self, database: str) -> str:
        """Return the same for SQLAlchemy alone."""
        servers = f"host={HOST},{HOST}&port={self.primary.port},{self.standby.port}"
        return f"postgresql://postgres@/{database}?{servers}&target_session_attrs=read-write"

    def hand_over(self) -> None:
        """Let the standby take writes in place of the primary, which still answers reads."""
        self.primary.execute(READ_ONLY, RELOAD)
        time.sleep(IN_FLIGHT_SECONDS)
        self.standby.execute(PROMOTE)

    def lose(self) -> None:
        """Let the standby take the place of the primary, which is gone with all connections."""
        self.primary.stop(IMMEDIATE)
        self.standby.execute(PROMOTE)


@contextmanager
def running() -> Iterator[Pair]:
    """Yield a pair that runs during the block."""
    with closing(Server()) as primary:
        primary.start()
        with closing(Standby(primary)) as standby:
            standby.start()
            primary.execute(SYNCHRONOUS, RELOAD)
            yield Pair(primary, standby)
