"""What stands in the database file, read with nothing but SQLite."""

import sqlite3
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any


class Books:
    """Questions to the file of a receiver, whether that runs or not."""

    def __init__(self, database: Path) -> None:
        self._address = f"file:{database}?mode=ro"

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self._address, uri=True, timeout=10)) as connection:
            return connection.execute(query, values).fetchall()

    def number(self, query: str, *values: Any) -> int:
        """The one number that a query gives, 0 where it is null."""
        return int(self.rows(query, *values)[0][0] or 0)

    def stored(self) -> Counter[bytes]:
        """How often each body is stored, by its digest."""
        return Counter(digest for (digest,) in self.rows("SELECT digest FROM deliveries"))

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


def lost(books: Books, acknowledged: Iterable[bytes]) -> int:
    """Deliveries that were answered 200 and are not there."""
    stored = books.stored()
    return sum(1 for digest in acknowledged if not stored[digest])


def repeated(books: Books) -> int:
    """Effects that happened more than once: events, bodies, jobs, results, ends of jobs."""
    twice = (
        "SELECT source, key FROM events GROUP BY source, key HAVING count(*) > 1",
        "SELECT digest FROM deliveries GROUP BY digest HAVING count(*) > 1",
        "SELECT event_id FROM jobs WHERE kind = 'fetch' GROUP BY event_id HAVING count(*) > 1",
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
        "PRAGMA foreign_key_check",
    )
    return sum(len(books.rows(query)) for query in missing)


def is_sound(books: Books) -> bool:
    """Whether SQLite finds nothing wrong with the file."""
    return books.rows("PRAGMA integrity_check") == [("ok",)]
