"""A real database, and a short way to put results into it."""

import io
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Connection, delete, func, insert, select, update
from sqlmodel import col

from storage.database import Database
from storage.export import ExportReport, ExportStore, Selection
from storage.models import Result, Run

NOON = datetime(2026, 10, 5, 12, 0, tzinfo=UTC)


class Shelf:
    """The database of one test: `put` stores results, `export` reads them back as bytes."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def put(self, run_id: str, output: Any = None, *, version: int = 1, **other: Any) -> None:
        """Store a version of a result, as the current one, and its run with the first."""
        self.database.write(lambda connection: _put(connection, run_id, output, version, other))

    def run(self, run_id: str, **values: Any) -> None:
        """Store a run without a result."""
        self.database.write(lambda connection: _put_run(connection, run_id, values))

    def clear(self) -> None:
        """Take everything away."""

        def work(connection: Connection) -> None:
            for model in (Result, Run):
                connection.execute(delete(model))

        self.database.write(work)

    def export(self, format: str, selection: Selection | None = None, **options: Any) -> bytes:
        """Export to memory."""
        return self.report(format, selection, **options)[0]

    def report(
        self, format: str, selection: Selection | None = None, **options: Any
    ) -> tuple[bytes, ExportReport]:
        """Export to memory; give what was written and the report on it."""
        out = io.BytesIO()
        report = ExportStore(self.database).write(selection or Selection(), format, out, **options)
        return out.getvalue(), report


_RUN = ("source", "batch_id", "task_id", "runner", "input", "created_at")


def _put_run(connection: Connection, run_id: str, values: dict[str, Any]) -> None:
    row = {"source": "valyu", "status": "completed", "run_id": run_id, **values}
    connection.execute(insert(Run).values(**row))


def _put(
    connection: Connection, run_id: str, output: Any, version: int, other: dict[str, Any]
) -> None:
    if version == 1:
        _put_run(connection, run_id, {name: other.pop(name) for name in _RUN if name in other})
    run_pk = connection.scalar(select(func.max(col(Run.id))).where(col(Run.run_id) == run_id))
    mine = col(Result.run_pk) == run_pk
    connection.execute(update(Result).where(mine).values(is_current=False))
    values = {
        "run_pk": run_pk,
        "version": version,
        "is_current": True,
        "digest": b"\xab\xcd",
        "status": "completed",
        "output": output,
        "fetched_at": NOON,
        "stored_at": NOON,
        "raw": "{}",
        **other,
    }
    connection.execute(insert(Result).values(**values))


@pytest.fixture
def shelf(database: Database) -> Shelf:
    """An empty store."""
    return Shelf(database)
