"""Every JSON column gives back exactly the document that was stored, on both databases."""

import io
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Table, delete, select
from sqlmodel import SQLModel

import storage
from storage.copying.sides import is_json, kind
from storage.database import Database
from storage.export import ExportStore, Selection
from storage.models import Result, Run
from tests.databases import KEY, Maker, is_postgres, keys, opened
from tests.storage import earlier
from tests.storage.build import NOON, keep, rows, run, undone
from tests.storage.rows import TEXT

NUMBERS = (
    st.integers()
    | st.integers(-(10**400), 10**400)
    | st.floats(allow_nan=False, allow_infinity=False)
)
LIKE_NUMBERS = st.sampled_from(["1e400", "-0", "007", "12345678901234567890", "0x10", "1_0", ".5"])
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT | LIKE_NUMBERS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
).filter(lambda document: document is not None)

COLUMNS = [c for table in SQLModel.metadata.sorted_tables for c in table.columns if is_json(c)]

KNOWN: dict[str, dict[str, Any]] = {
    "batches": {"state": "open"},
    "jobs": {"kind": "fetch", "subject_kind": "run", "status": "pending"},
    "runs": {"status": "queued"},
    "results": {"is_current": True, "status": "completed", "origin": "api"},
    "submissions": {"kind": "batch"},
}
"""Values that constraints ask for; all others that a row must have are taken by their type."""

BY_TYPE = {str: "x", int: 1, bool: False, bytes: b"x", float: 0.0, type(NOON): NOON}


def row(table: Table, **values: Any) -> dict[str, Any]:
    """Return a row of `table` in which every column that must have a value has one."""
    needed = [column for column in table.columns if not column.nullable]
    made = {c.name: [] if is_json(c) else BY_TYPE[kind(c).python_type] for c in needed}
    return made | KNOWN.get(table.name, {}) | values


def stored(connection: Connection, document: Any) -> list[Any]:
    """Return the document as each column gives it back."""
    found = []
    for column in COLUMNS:
        table = column.table
        parents = [key.column.table for key in table.foreign_keys if not key.parent.nullable]
        for parent in parents:
            connection.execute(parent.insert().values(row(parent)))
        connection.execute(table.insert().values(row(table, **{column.name: document})))
        found.append(connection.execute(select(column)).scalar())
        for each in (table, *parents):
            connection.execute(each.delete())
    return found


@given(DOCUMENTS)
@example(12345678901234567890)
@example(-0.0)
@example(1e23)
@example({"b": -0.0, "a": [1e300, "1e400"]})
def test_columns_keep_every_document(scratch: Database, document: Any) -> None:
    for found in undone(scratch, lambda c: stored(c, document)):
        assert json.dumps(found) == json.dumps(document)


def exported(database: Database, document: Any) -> dict[str, Any]:
    """Store the document as a sender's output, and return its line of an export."""
    fetched = run("r", output=document, sources=[document], input={"q": document})
    database.write(lambda c: keep(c, fetched))
    out = io.BytesIO()
    ExportStore(database).write(Selection(), "jsonl", out)
    database.write(lambda c: [c.execute(delete(model)) for model in (Result, Run)])
    line: dict[str, Any] = json.loads(out.getvalue())
    return line


@settings(max_examples=30)
@given(DOCUMENTS)
@example(12345678901234567890)
@example(-0.0)
def test_exports_keep_every_document(scratch: Database, document: Any) -> None:
    line = exported(scratch, document)
    found = [line["output"], line["sources"], line["input"]]
    assert json.dumps(found) == json.dumps([document, [document], {"q": document}])


# --- earlier versions -----------------------------------------------------------------------------

RESULT = (
    "INSERT INTO results (run_pk, version, is_current, digest, status, output, sources, fetched_at,"
    " stored_at, origin, cleaned, raw) VALUES (1, {0}, {0} = 1, '', 'completed', '{1}', '[1.50]',"
    " '2026-01-01', '2026-01-01', 'api', {2}, '{{}}')"
)
BEFORE = ["7", "0.1", "-12.5e300", '"7"', '{"b": 1, "a": 2}']


@pytest.fixture
def upgraded(maker: Maker, tmp_path: Path) -> Iterator[str]:
    """A database of an earlier version with documents in it, which has been upgraded."""
    url = maker.bare(tmp_path)
    (tmp_path / "resultsink.key").write_text(KEY)
    results = (
        RESULT.format(version, output, "false" if is_postgres(url) else 0)
        for version, output in enumerate(BEFORE, start=1)
    )
    made = "INSERT INTO runs (source, run_id, status) VALUES ('v', 'r', 'queued')"
    earlier.make(url, made, *results)
    storage.upgrade(url, keys(url))
    yield url
    maker.drop(url)


def test_upgrade_keeps_documents(upgraded: str) -> None:
    with opened(upgraded) as store:
        found = [json.dumps(row.output) for row in rows(store.database, Result)]
    assert found == [json.dumps(json.loads(text)) for text in BEFORE]


@pytest.mark.sqlite
def test_upgrade_leaves_a_sound_file(upgraded: str) -> None:
    """The schema was changed without writing the rows anew."""
    with closing(sqlite3.connect(upgraded.removeprefix("sqlite:///"))) as file:
        assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert file.execute("SELECT typeof(output), output FROM results").fetchall()[:3] == [
            ("text", "7"), ("text", "0.1"), ("text", "-1.25e+301"),
        ]  # fmt: skip
