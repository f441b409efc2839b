"""Replays by filter: what matches is counted, and worked on again without a second effect."""

from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import update
from sqlmodel import col

from storage import EventFilter, Matching, Store
from storage.deliveries import replays
from storage.models import Attempt, Event, Job
from tests.storage.build import at, delivery, keep, record, rows, run

STATUSES = ("dead", "done", "pending", "abandoned")


@pytest.fixture
def events(store: Store) -> Store:
    """Four events, an hour apart from noon on, whose jobs have these statuses."""
    for number, status in enumerate(STATUSES):
        kind = "batch" if status == "done" else "run"
        record(store.database, delivery(f"e{number}", subject=f"r{number}", subject_kind=kind))
        _set(store, Event, number + 1, received_at=at(3600 * number))
        _set(store, Job, number + 1, status=status)
    return store


def _set(store: Store, table: Any, key: int, **values: Any) -> None:
    store.database.write(
        lambda c: c.execute(update(table).where(col(table.id) == key).values(values))
    )


def replay(store: Store, **wanted: Any) -> int:
    return sum(store.replays.replay(EventFilter(**wanted)))


def states(store: Store) -> Sequence[tuple[int | None, str]]:
    return [(row.event_id, row.status) for row in rows(store.database, Job)]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, (3, 1, 0)),
        ({"source": "other"}, (0, 0, 0)),
        ({"status": "dead"}, (1, 0, 0)),
        ({"since": at(3600)}, (2, 1, 0)),
        ({"until": at(3600)}, (1, 0, 0)),
        ({"kind": "batch"}, (1, 0, 0)),
        ({"ids": (1, 3, 99)}, (1, 1, 0)),
        ({"batch_id": "r1"}, (1, 0, 0)),
        ({"status": "done", "since": at(0), "kind": "run"}, (0, 0, 0)),
    ],
)
def test_filters_are_joined(events: Store, wanted: dict[str, Any], found: tuple[int, ...]) -> None:
    assert events.replays.count(EventFilter(**wanted)) == Matching(*found)
    listed = events.replays.newest(EventFilter(**wanted), limit=9)
    assert len(listed) == found[0]


def test_batch_has_the_events_of_its_runs(events: Store) -> None:
    events.database.write(lambda c: keep(c, run("r0", batch_id="b"), run("r3", batch_id="x")))
    assert events.replays.count(EventFilter(batch_id="b")).replayable == 1


def test_dead_letter_waits_again_and_is_audited(events: Store) -> None:
    _set(events, Job, 1, failures=9, reason="gone")
    assert replay(events, status="dead") == 1
    job = rows(events.database, Job)[0]
    assert (job.status, job.failures, job.hurried_by) == ("pending", 0, "hand")
    (attempt,) = rows(events.database, Attempt)
    assert (attempt.job_id, attempt.outcome, attempt.detail) == (1, "replayed", "by an operator")


def test_done_event_gets_another_job(events: Store) -> None:
    assert replay(events, ids=(2, 4)) == 2
    *_, one, other = rows(events.database, Job)
    assert [(each.event_id, each.subject, each.progress) for each in (one, other)] == [
        (2, "r1", {"again": True}),
        (4, "r3", {"again": True}),
    ]
    assert one.hurried_by == "hand"
    assert [row.job_id for row in rows(events.database, Attempt)] == [one.id, other.id]


def test_repeated_replay_changes_nothing(events: Store) -> None:
    assert (replay(events, source="valyu"), replay(events, source="valyu")) == (3, 0)
    assert [state for _, state in states(events)].count("pending") == 4


def test_unusable_event_is_left_alone(events: Store) -> None:
    _set(events, Job, 1, subject=None)
    assert events.replays.count(EventFilter(status="dead")) == Matching(0, 0, 1)
    assert replay(events, status="dead") == 0


def test_many_events_take_several_chunks(events: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replays, "CHUNK", 2)
    assert list(events.replays.replay(EventFilter(source="valyu"))) == [2, 1]
