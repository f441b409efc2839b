"""Types of columns, and constraints, that the tables share."""

from typing import Final, Literal, get_args

from sqlalchemy import JSON, BigInteger, CheckConstraint, Column, Integer, String
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import SQLModel

KEY = BigInteger().with_variant(Integer, "sqlite")
"""A key of 64 bits; SQLite's own keys, under the plain name, are as wide."""

JSON_DOCUMENT = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")

ORDERED_DOCUMENT = JSON(none_as_null=True)
"""A document whose keys become columns of an export: JSONB would sort them, by their length."""


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
