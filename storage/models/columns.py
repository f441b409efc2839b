"""Types of columns, and constraints, that the tables share."""

from typing import Any, Final, Literal, get_args

from sqlalchemy import JSON, BigInteger, CheckConstraint, Column, Integer, String
from sqlalchemy.ext.compiler import compiles
from sqlmodel import SQLModel

KEY = BigInteger().with_variant(Integer, "sqlite")
"""A key of 64 bits; SQLite's own keys, under the plain name, are as wide."""


class _Document(JSON):
    """JSON that SQLite keeps as the text that it is given.

    A column declared as JSON has the affinity NUMERIC there, and a document that is a bare number
    would become another one (https://sqlite.org/datatype3.html).
    """


@compiles(_Document, "sqlite")
def _declared(*_: Any, **__: Any) -> str:
    return "TEXT"


JSON_DOCUMENT = _Document(none_as_null=True)
"""A document that is read back exactly, with its keys in their order.

On Postgres it is JSON: JSONB would sort keys, and write some numbers as others.
"""


def one_of(column: str, *values: str) -> CheckConstraint:
    """Return a constraint that refuses other values than these."""
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=f"{column}_known")


FoundBy = Literal["webhook", "check", "wait", "reconcile", "hand"]
"""By which way a result came: who made the look at the sender that brought it.

    webhook: a verified delivery. One look may also bring runs whose own deliveries never came.
    check: our own check, when it was due.
    wait: somebody waited for it.
    reconcile: `reconcile` or `verify --repair`.
    hand: another command, such as `batch status` or the replay of a dead letter.
"""

WAYS: Final[tuple[FoundBy, ...]] = get_args(FoundBy)


def way(column: str) -> Column[str]:
    """Return a column that holds one of WAYS, or NULL; scripts can add it to a table."""
    return Column(column, String, one_of(column, *WAYS))


SQLModel.metadata.naming_convention = {
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
}
