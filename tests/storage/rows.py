"""Random rows for every table, made from what the models say of it."""

import re
from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Connection,
    DateTime,
    Float,
    Integer,
    LargeBinary,
    Table,
)
from sqlmodel import SQLModel

from storage.encryption import Vault

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
NUMBERS = st.integers(-(10**30), 10**30) | st.floats(-1e15, 1e15)
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
TIMES = st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001

KINDS = (
    (Boolean, st.booleans()),
    (BigInteger, st.integers(-(2**63), 2**63 - 1)),
    (Integer, st.integers(-(2**31), 2**31 - 1)),
    (Float, st.floats(allow_nan=False, allow_infinity=False)),
    (LargeBinary, st.binary(max_size=20)),
    (JSON, DOCUMENTS),
    (DateTime, TIMES),
)


def _values(table: Table, column: Column[Any]) -> st.SearchStrategy[Any]:
    """Values that a column may hold; of a reference, those of the parents."""
    kind = getattr(column.type, "impl_instance", column.type)
    values = next((values for its, values in KINDS if isinstance(kind, its)), TEXT)
    if column.foreign_keys:
        values = st.integers(0, 2)
    elif column.primary_key and isinstance(kind, Integer):
        values = st.integers(1, 2**60)
    for check in table.constraints:
        said = str(check.sqltext) if isinstance(check, CheckConstraint) else ""
        if said.startswith(f"{column.name} IN"):
            values = st.sampled_from(re.findall(r"'(\w+)'", said))
    return st.none() | values if column.nullable else values


ROWS = st.fixed_dictionaries(
    {
        table.name: st.lists(
            st.fixed_dictionaries({c.name: _values(table, c) for c in table.columns}), max_size=3
        )
        for table in SQLModel.metadata.sorted_tables
        if table.name != "meta"
    }
)


def insert(connection: Connection, drawn: dict[str, list[dict[str, Any]]], vault: Vault) -> None:
    """Write up to three rows for each table; what a constraint refuses is left out."""
    for name, rows in drawn.items():
        table = SQLModel.metadata.tables[name]
        for given in rows:
            row = {column.name: _stored(connection, column, given) for column in table.columns}
            if "ciphertext" in row:
                row["ciphertext"] = vault.encrypt(row["ciphertext"])
            if not any(row[c.name] is None and not c.nullable for c in table.columns):
                connection.execute(table.insert().prefix_with("OR IGNORE"), row)


def _stored(connection: Connection, column: Column[Any], given: dict[str, Any]) -> Any:
    value = given[column.name]
    for key in column.foreign_keys:
        parents = connection.execute(key.column.table.select()).all()
        if value is not None:
            value = getattr(parents[value % len(parents)], key.column.name) if parents else None
    return value
