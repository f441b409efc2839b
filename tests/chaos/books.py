"""The contents of the database, read from its tables without the product."""

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

import sqlalchemy


class Books:
    """Questions to the database of a receiver, whether that runs or not."""

    def __init__(self, url: str) -> None:
        self._engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
        self.is_file = self._engine.dialect.name == "sqlite"

    def rows(self, query: str, **values: Any) -> list[tuple[Any, ...]]:
        with self._engine.connect() as connection:
            found = connection.execute(sqlalchemy.text(query), values)
            return [tuple(row) for row in found]

    def number(self, query: str, **values: Any) -> int:
        """The one number that a query gives, 0 where it is null."""
        return int(self.rows(query, **values)[0][0] or 0)

    def document(self, value: Any) -> Any:
        """A value of a JSON column: only Postgres reads it for us."""
        return json.loads(value) if self.is_file and value is not None else value

    def stored(self) -> Counter[bytes]:
        """Count the rows of each body, by its digest."""
        return Counter(bytes(row[0]) for row in self.rows("SELECT digest FROM deliveries"))

    def unfinished(self) -> int:
        """Jobs that an event made and that have no outcome yet."""
        return self.number(
            "SELECT count(*) FROM jobs WHERE kind = 'fetch' AND status IN ('pending', 'running')"
        )

    def open_batches(self) -> int:
        """Batches with runs that are not complete."""
        return self.number(
            "SELECT count(*) FROM batches WHERE state != 'complete' AND submitted > 0"
        )

    def checks_of(self, batch_id: str) -> int:
        """The checks that still look for news of a batch."""
        return self.number(
            "SELECT count(*) FROM jobs WHERE kind = 'check' AND subject = :batch"
            " AND status IN ('pending', 'running')",
            batch=batch_id,
        )

    def outputs(self, batch_id: str) -> dict[str, Any]:
        """The output of each run of a batch: one version each."""
        rows = self.rows(
            "SELECT runs.run_id, results.output FROM runs"
            " JOIN results ON results.run_pk = runs.id WHERE runs.batch_id = :batch",
            batch=batch_id,
        )
        found = {run_id: self.document(output) for run_id, output in rows}
        assert len(found) == len(rows), "a run has two results"
        return found


def lost(books: Books, acknowledged: Iterable[bytes]) -> int:
    """Deliveries that were answered 200 and are not there."""
    stored = books.stored()
    return sum(1 for digest in acknowledged if not stored[digest])


def repeated(books: Books) -> int:
    """Effects that happened more than once: events, bodies, jobs, results, ends of jobs."""
    twice = (
        "SELECT source, key FROM events GROUP BY source, key HAVING count(*) > 1",
        "SELECT digest FROM deliveries GROUP BY digest HAVING count(*) > 1",
        # another body of the same event is a reason to fetch again
        "SELECT event_id FROM jobs WHERE kind = 'fetch' GROUP BY event_id HAVING count(*) >"
        " (SELECT count(*) FROM deliveries WHERE deliveries.event_id = jobs.event_id)",
        "SELECT run_pk FROM results GROUP BY run_pk HAVING count(*) > 1",
        "SELECT job_id FROM attempts WHERE outcome = 'done' GROUP BY job_id HAVING count(*) > 1",
        "SELECT id FROM results WHERE version != 1 OR NOT is_current",
    )
    return sum(len(books.rows(query)) for query in twice)


def half_done(books: Books) -> int:
    """Events without their delivery or their job, jobs that ended badly, results without a run."""
    missing = (
        "SELECT id FROM events WHERE id NOT IN (SELECT event_id FROM deliveries)",
        "SELECT id FROM events WHERE disposition = 'fetch'"
        " AND id NOT IN (SELECT event_id FROM jobs WHERE event_id IS NOT NULL)",
        "SELECT id FROM jobs WHERE kind = 'fetch' AND status != 'done'",
        "SELECT id FROM results WHERE run_pk NOT IN (SELECT id FROM runs)",
        *(["PRAGMA foreign_key_check"] if books.is_file else []),
    )
    return sum(len(books.rows(query)) for query in missing)


def is_sound(books: Books) -> bool:
    """Return True if SQLite finds nothing wrong with the file; Postgres checks its pages itself."""
    return not books.is_file or books.rows("PRAGMA integrity_check") == [("ok",)]
