"""python -m tests.chaos.dying before|after N ...: our program, dying at its Nth COMMIT.

It kills itself with SIGKILL just before or just after the Nth transaction that has written
anything is committed. Nothing of the product knows of this: it is done to SQLAlchemy from outside.
The file that DYING_COUNT names grows by a byte for each.
"""

import itertools
import os
import signal
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy.engine.default import DefaultDialect

from receiver.cli import main


class Grave:
    """Counts the COMMITs that write; the Nth is the last."""

    def __init__(self, when: str, nth: int, count: Path) -> None:
        assert when in ("before", "after")
        self._when = when
        self._nth = nth
        self._count = os.open(count, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._numbers = itertools.count(1)
        self._changes: dict[int, int] = {}
        self._commit: Callable[[DefaultDialect, Any], None] = DefaultDialect.do_commit

    def dig(self) -> None:
        """Stand between SQLAlchemy and its driver."""
        grave = self

        def do_commit(dialect: DefaultDialect, connection: Any) -> None:
            if not grave._has_written(connection.driver_connection):
                grave._commit(dialect, connection)
                return
            number = next(grave._numbers)
            os.write(grave._count, b".")
            if number == grave._nth and grave._when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            grave._commit(dialect, connection)
            if number == grave._nth:
                os.kill(os.getpid(), signal.SIGKILL)

        DefaultDialect.do_commit = do_commit  # type: ignore[method-assign]

    def _has_written(self, raw: Any) -> bool:
        """Return True if the open transaction has changed anything: most claims find no job."""
        if isinstance(raw, sqlite3.Connection):
            before = self._changes.get(id(raw), 0)
            self._changes[id(raw)] = raw.total_changes
            return raw.total_changes != before
        (number,) = raw.execute("SELECT pg_current_xact_id_if_assigned()").fetchone()
        return number is not None


if __name__ == "__main__":
    when, nth, *arguments = sys.argv[1:]
    Grave(when, int(nth), Path(os.environ["DYING_COUNT"])).dig()
    sys.argv = ["resultsink", *arguments]
    main()
