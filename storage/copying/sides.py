"""One side of a copy: a database that this process has to itself for as long as it takes."""

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from sqlalchemy import JSON, Column, Connection, FromClause, Table, func, select
from sqlalchemy.engine import make_url

Row = Sequence[Any]
"""A row in the order of the table's columns, as the models' types read it; JSON is its text."""


_POSTGRES = make_url("postgresql+psycopg://").get_dialect()()


def kind(column: Column[Any]) -> Any:
    """The column's type on Postgres, which tells more kinds apart; without what wraps it."""
    found = column.type.dialect_impl(_POSTGRES)
    return getattr(found, "impl_instance", found)


def is_json(column: Column[Any]) -> bool:
    """Whether its values travel as text."""
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
        """The same for two sides exactly where they are one database."""

    @abstractmethod
    def revision(self) -> str | None:
        """The schema that it has, None for none. Raises CannotOpen where it is not ours."""

    @abstractmethod
    def claim(self) -> bool:
        """Keep everybody from serving it until `close`; False where somebody serves it now."""

    @abstractmethod
    def transaction(self, tables: Sequence[Table], *, fills: bool) -> AbstractContextManager[None]:
        """One transaction beside which nobody writes; committed where the block ends well.

        `fills` where it is to be filled, and the tables are made first where there are none.
        """

    def count(self, table: FromClause) -> int:
        """How many rows there are."""
        return int(self.connection.execute(select(func.count()).select_from(table)).scalar_one())

    @abstractmethod
    def rows(self, table: Table) -> Generator[Row]:
        """All rows in the order of their keys; no more than one is held at a time.

        Close it within the transaction: while it is open, a server's connection is taken by it.
        """

    @abstractmethod
    def insert(self, table: Table, rows: Iterable[Row]) -> None:
        """Write them, as they come."""

    @abstractmethod
    def settle(self, tables: Sequence[Table]) -> None:
        """After all rows: have what is inserted next collide with none of them."""

    @abstractmethod
    def close(self) -> None:
        """Let go of it."""
