"""The interface that both databases offer to the store."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql

T = TypeVar("T")
Work = Callable[[Connection], Any]
Done = Callable[[Any, BaseException | None], None]

insert = postgresql.insert
"""INSERT with ON CONFLICT; both databases understand it as it is written here."""


def now() -> datetime:
    """Return this machine's time, aware, in UTC. Times that are stored come from `Database.now`."""
    return datetime.now(UTC)


class Database(ABC):
    """An open database. Its methods block, and are safe to use from many threads.

    `is_shared` is True where several processes, on several machines, may serve it at once.
    """

    is_shared: bool
    name: str
    """Its address without a password, for logs and error messages."""

    @abstractmethod
    def write(self, work: Callable[[Connection], T], *, urgent: bool = False) -> T:
        """Run `work` in one transaction; return its value after the COMMIT.

        `urgent` work has the connections and the limits of the intake. `work` must change nothing
        but rows, since it may run again after a deadlock. Raises CannotStore when the database
        cannot write now; nothing was written then. An error of the statement itself is raised as it
        is.
        """

    @abstractmethod
    def submit(self, work: Work, done: Done) -> None:
        """Queue `work` of the intake, to run before all other work; returns at once.

        `done(value, error)` is called on another thread after the COMMIT, or after the rollback.
        Raises CannotStore once the database is closed.
        """

    @abstractmethod
    def read(self, *, urgent: bool = False) -> AbstractContextManager[Connection]:
        """Open a consistent view, which should be short. An `urgent` one does not wait for work.

        Raises CannotStore when the database cannot be read now. An error of a statement itself is
        raised as it is.
        """

    @abstractmethod
    def watch(self) -> AbstractContextManager[Callable[[], object]]:
        """Yield a cheap function whose value changes whenever another connection has committed.

        Values can only be compared for equality. The function raises CannotStore when the database
        cannot be read now.
        """

    @abstractmethod
    def now(self) -> datetime:
        """Return the time that all servers of this database agree upon: aware, in UTC."""

    @abstractmethod
    def look_at_clock(self, connection: Connection) -> datetime:
        """Return the same time, read from the clock within a transaction: exact, but not free."""

    @abstractmethod
    def is_served(self) -> bool:
        """Return True while some process serves this database."""

    @abstractmethod
    def hint(self) -> None:
        """Notify other processes, which `listen`, that there may be work; never waits."""

    @abstractmethod
    def listen(self, on_notify: Callable[[], None]) -> None:
        """Call `on_notify`, on another thread, at each hint of another process."""

    @abstractmethod
    def close(self) -> None:
        """Finish queued writes and close every connection."""
