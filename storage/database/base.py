"""What a database does for the store, whichever it is."""

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
    """This machine's clock: an aware datetime in UTC. What is stored asks `Database.now`."""
    return datetime.now(UTC)


class Database(ABC):
    """An open database. Its methods block, and are safe to use from many threads.

    `is_shared`: several processes, on several machines, may serve it at once.
    """

    is_shared: bool
    name: str
    """Where it is, for logs and sentences: without a password."""

    @abstractmethod
    def write(self, work: Callable[[Connection], T], *, urgent: bool = False) -> T:
        """Run `work` in one transaction; return after its COMMIT.

        What is `urgent` has the connections and the limits of the intake.
        It may be run again where the database asks for that, so it changes nothing but rows.
        Raises CannotStore when the database cannot take it now; nothing was written then. What is
        wrong with the statement itself is raised as it is.
        """

    @abstractmethod
    def submit(self, work: Work, done: Done) -> None:
        """The same for the intake, before all other work, and without waiting.

        `done(value, error)` is called on another thread. Raises CannotStore after the end.
        """

    @abstractmethod
    def read(self, *, urgent: bool = False) -> AbstractContextManager[Connection]:
        """A consistent view. Keep it short. What is `urgent` does not wait for other work.

        Raises CannotStore when the database cannot be read now; what is wrong with a statement
        itself is raised as it is.
        """

    @abstractmethod
    def watch(self) -> AbstractContextManager[Callable[[], object]]:
        """Yield a cheap look that tells another value whenever another connection has committed.

        Values are equal or not, and no more can be told from them. A look raises CannotStore when
        the database cannot be read now.
        """

    @abstractmethod
    def now(self) -> datetime:
        """The clock that all who serve this database agree upon: an aware datetime in UTC."""

    @abstractmethod
    def look_at_clock(self, connection: Connection) -> datetime:
        """The same by a look at the clock itself, within a transaction: exact, but not free."""

    @abstractmethod
    def is_served(self) -> bool:
        """Whether some process serves this database now."""

    @abstractmethod
    def hint(self) -> None:
        """Tell those who `listen` in other processes that there may be work; never waits."""

    @abstractmethod
    def listen(self, heard: Callable[[], None]) -> None:
        """Have `heard` called, on another thread, at each hint of another process."""

    @abstractmethod
    def close(self) -> None:
        """Finish queued writes and close every connection."""
