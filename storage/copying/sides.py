"""One side of a copy: a database that nobody else serves or writes meanwhile."""

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from sqlalchemy import JSON, Column, Connection, FromClause, Table, func, select
from sqlalchemy.engine import make_url

Row = Sequence[Any]
"""A row in the order of the table's columns, with the models' types; JSON is text."""


_POSTGRES = make_url("postgresql+psycopg://").get_dialect()()


def kind(column: Column[Any]) -> Any:
    """Return the column's type on Postgres, which has more types, without a TypeDecorator."""
    found = column.type.dialect_impl(_POSTGRES)
    return getattr(found, "impl_instance", found)


def is_json(column: Column[Any]) -> bool:
    """Return True for JSON columns, whose values are copied as text."""
    return isinstance(kind(column), JSON)


class Side(ABC):
    """A database, found but not yet claimed. Its errors are sentences: CannotOpen, CopyFailed.

    Everything from `count` on is for within the block of `transaction`.
    """

    name: str
    """Where it is, for sentences: without a password."""

    connection: Connection

    @property
    @abstractmethod
    def identity(self) -> object:
        """A value that is equal for two sides that are one database."""

    @abstractmethod
    def revision(self) -> str | None:
        """Return its schema, or None; raises CannotOpen for another program's database."""

    @abstractmethod
    def claim(self) -> bool:
        """Prevent serving until `close`; returns False where it is served now.

        `transaction` needs it: what holds the claim may be the transaction itself.
        """

    @abstractmethod
    def transaction(self, tables: Sequence[Table], *, fills: bool) -> AbstractContextManager[None]:
        """Open the one transaction, during which nobody else writes; an error rolls it back.

        With `fills` it is the target, and missing tables are made first.
        """

    def count(self, table: FromClause) -> int:
        """Count the rows."""
        return int(self.connection.execute(select(func.count()).select_from(table)).scalar_one())

    @abstractmethod
    def rows(self, table: Table) -> Generator[Row]:
        """Yield all rows in the order of their keys, one at a time.

        Close it within the transaction: until then it occupies a server's connection.
        """

    @abstractmethod
    def insert(self, table: Table, rows: Iterable[Row]) -> None:
        """Write rows as they come."""

    @abstractmethod
    def settle(self, tables: Sequence[Table]) -> None:
        """Finish after all rows: ids that are given next must not collide with theirs."""

    @abstractmethod
    def close(self) -> None:
        """Close the connection, and end the claim."""
