"""Types of columns, and constraints, that the tables share."""

from sqlalchemy import JSON, BigInteger, CheckConstraint, Integer
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


SQLModel.metadata.naming_convention = {
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
}
