"""A clock that goes back delays nothing by more than it must."""

from datetime import datetime, timedelta

import pytest

from storage import Store, clock
from storage.database import Database
from storage.jobs import overdue
from storage.jobs.lease import LEASE_SECONDS
from storage.models import Job, Meta
from tests.storage.build import NOON, at, claim, enqueue, rows

HOUR = timedelta(hours=1)


def follow(database: Database, seconds: float) -> timedelta | None:
    """Look at the clock; where it has gone back, do what that asks for."""
    back = database.write(lambda c: clock.gone_back(c, now=at(seconds)))
    if back is not None:
        while database.write(lambda c: overdue.hurry(c, now=at(seconds))):
            pass
        database.write(lambda c: clock.note(c, now=at(seconds)))
    return back


@pytest.mark.parametrize("later", [0.0, 1.0, 15.0, 3600.0])
def test_forward_clock_changes_nothing(database: Database, later: float) -> None:
    follow(database, 0)
    enqueue(database, due=at(7200))
    assert follow(database, later) is None
    assert rows(database, Job)[0].next_attempt_at == at(7200)


def test_waiting_jobs_due_after_clock_went_back(database: Database) -> None:
    follow(database, 3600)
    enqueue(database, due=at(3605))
    assert claim(database, now=NOON) == []
    assert follow(database, 0) == HOUR
    assert len(claim(database, now=NOON)) == 1


def test_lease_shortened_after_clock_went_back(database: Database) -> None:
    enqueue(database, due=at(3600))
    claim(database, now=at(3600))
    follow(database, 3600)
    follow(database, 0)
    assert rows(database, Job)[0].lease_until == at(LEASE_SECONDS)
    assert rows(database, Job)[0].next_attempt_at <= NOON


def test_it_is_said_once(database: Database) -> None:
    follow(database, 3600)
    assert follow(database, 0) == HOUR
    enqueue(database, due=at(60))
    assert follow(database, 1) is None
    assert rows(database, Job)[0].next_attempt_at == at(60)


def test_step_below_a_second_is_ignored(database: Database) -> None:
    """Several machines measure the clock of one server, each a little differently."""
    follow(database, 10)
    assert follow(database, 9.5) is None


def test_pauses_and_rate_limits_are_shortened(store: Store) -> None:
    later = store.now() + HOUR
    enqueue(store.database, due=NOON)
    (lease,) = claim(store.database, now=NOON)
    store.database.write(lambda c: clock.note(c, now=later))
    store.sources.hold_calls(lease.source, 3600)
    assert store.sources.book_calls(lease.source, 1, 0.1) > 3000
    assert store.jobs.release_expired() == 1
    assert store.sources.book_calls(lease.source, 1, 0.1) < 1


@pytest.mark.postgres
def test_late_notes_of_others_hurried_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "LOOKED_SECONDS", 0)
    late = store.now() + HOUR
    store.database.write(lambda c: clock.note(c, now=late))
    store.jobs.release_expired()
    for is_hurried in (True, False):
        enqueue(store.database, due=late)
        store.jobs.release_expired()
        assert (rows(store.database, Job)[-1].next_attempt_at < late) == is_hurried


def test_large_backlog_is_hurried_over_several_looks(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overdue, "HURRY_SECONDS", 0)
    monkeypatch.setattr(overdue, "STEP_JOBS", 2)
    late = store.now() + HOUR
    store.database.write(lambda c: clock.note(c, now=late))
    for number in range(5):
        enqueue(store.database, subject=f"run-{number}", due=late)

    def look() -> tuple[int, bool]:
        """One look; returns how many jobs still wait, and whether the moment has been noted."""
        store.jobs.release_expired()
        waiting = sum(job.next_attempt_at == late for job in rows(store.database, Job))
        (noted,) = (row.value for row in rows(store.database, Meta) if row.key == clock.SEEN)
        return waiting, datetime.fromisoformat(noted) < late

    assert [look() for _ in range(4)] == [(3, False), (1, False), (0, False), (0, True)]


@pytest.mark.parametrize(
    ("hours", "ahead"), [(-1, False), (0, False), (23, False), (25, True), (9999, True)]
)
def test_clock_leap_over_a_day_is_suspected(database: Database, hours: float, ahead: bool) -> None:
    follow(database, 0)
    moment = NOON + hours * HOUR
    assert database.write(lambda c: clock.may_be_ahead(c, now=moment)) is ahead


def test_suspicion_lasts_a_day_after_last_look(database: Database) -> None:
    leap = 40 * 86_400
    follow(database, 0)
    follow(database, leap)  # a worker, as soon as it starts
    follow(database, leap + 20)

    def ahead(seconds: float) -> bool:
        return database.write(lambda c: clock.may_be_ahead(c, now=at(seconds)))

    assert ahead(leap + 30)
    follow(database, leap + 86_390)
    assert not ahead(leap + 86_400)  # a day later it is believed
    assert not ahead(60)  # it was ahead, and has been set right


def test_new_database_has_seen_no_clock(database: Database) -> None:
    assert not database.write(lambda c: clock.may_be_ahead(c, now=NOON))
