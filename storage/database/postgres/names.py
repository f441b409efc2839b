"""Names in a Postgres database: every installation has a schema, a channel and locks of its own."""

import hashlib
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, Table

DEFAULT_SCHEMA = "resultsink"

LOCKS = 20_261
"""The first half of the advisory locks of all installations."""

_OPTION = "resultsink_schema"


@dataclass(frozen=True, slots=True)
class Names:
    """Names that the processes of one installation share: those of another schema have others."""

    schema: str

    @property
    def channel(self) -> str:
        """Where hints are sent; the same for all processes of the installation."""
        return f"resultsink_{_digest(self.schema, 8).hex()}"

    @property
    def served(self) -> tuple[int, int]:
        """The advisory lock that all servers share, and that `db copy` takes alone."""
        return LOCKS, _number(f"served {self.schema}")

    @property
    def migrating(self) -> tuple[int, int]:
        """The advisory lock under which the schema is changed."""
        return LOCKS, _number(f"migrating {self.schema}")


def _number(text: str) -> int:
    return int.from_bytes(_digest(text, 4)) >> 1  # pg_locks shows it without a sign


def _digest(text: str, size: int) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=size).digest()


def name_schema(engine: Engine, schema: str) -> None:
    """Have `engine` write the schema before each table's name, when it compiles a statement.

    SQLAlchemy's own way, `schema_translate_map`, goes through the text of a statement each time it
    runs: 0.2 ms for a long one.
    """

    def schema_for_object(named: Any) -> Any:
        """Return the schema of a table, but none for a subquery."""
        return schema if named.schema is None and isinstance(named, Table) else named.schema

    engine.dialect.identifier_preparer.schema_for_object = schema_for_object
    engine.update_execution_options(**{_OPTION: schema})


def schema_of(connection: Connection) -> str | None:
    """Return the schema of our tables; None on SQLite."""
    named: str | None = connection.get_execution_options().get(_OPTION)
    return named


def prefix(connection: Connection) -> str:
    """Return what stands before a table's name in SQL that is written as text."""
    schema = schema_of(connection)
    preparer = connection.dialect.identifier_preparer
    return "" if schema is None else f"{preparer.quote_schema(schema)}."
