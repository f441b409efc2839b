"""Checks: one for each endpoint and batch, hurried by news and ended by results."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from storage import Store, jobs
from storage.database import Database
from storage.jobs import checks
from storage.models import Job
from tests.storage.build import (
    NOON,
    at,
    claim,
    contents,
    enqueue,
    rows,
    tried,
)


@pytest.mark.parametrize("live", ["pending", "running"])
def test_an_endpoint_has_one_live_check(database: Database, live: str) -> None:
    enqueue(database, kind="check", endpoint_id="e", status=live)
    enqueue(database, kind="check", endpoint_id="e")
    assert len(rows(database, Job)) == 1


@pytest.mark.parametrize("ended", ["done", "dead", "abandoned"])
def test_endpoint_gets_new_check_after_end(database: Database, ended: str) -> None:
    enqueue(database, kind="check", endpoint_id="e", status=ended)
    enqueue(database, kind="check", endpoint_id="e")
    assert [row.status for row in rows(database, Job)] == [ended, "pending"]


def test_fetches_of_one_endpoint_coexist(database: Database) -> None:
    enqueue(database, endpoint_id="e")
    enqueue(database, endpoint_id="e")
    assert len(rows(database, Job)) == 2


def test_jobs_learn_the_endpoint_s_subject(
    database: Database,
) -> None:
    for endpoint, subject in (("e", None), ("e", "another"), ("other", None)):
        enqueue(database, endpoint_id=endpoint, subject=subject)
    database.write(lambda c: jobs.learn_subject(c, "e", "mine"))
    assert [row.subject for row in rows(database, Job)] == ["mine", "another", None]


def test_only_matching_pending_check_is_hurried(database: Database) -> None:
    mine: dict[str, Any] = {"kind": "check", "subject_kind": "batch", "subject": "b"}
    others = [{"kind": "fetch"}, {"source": "other"}, {"subject_kind": "run"}, {"subject": "c"}]
    for number, other in enumerate([{}, *others]):
        how = {**mine, **other, "endpoint_id": str(number), "waits": 3, "trying_since": NOON}
        enqueue(database, due=at(600), **how)
    database.write(lambda c: checks.hurry(c, "batch", "valyu", "b", due=NOON, by="wait"))
    assert [row.next_attempt_at for row in rows(database, Job)] == [NOON, *[at(600)] * 4]
    assert [row.waits for row in rows(database, Job)] == [0, 3, 3, 3, 3]
    assert [row.trying_since for row in rows(database, Job)] == [None, *[NOON] * 4]
    assert [row.hurried_by for row in rows(database, Job)] == ["wait", *[None] * 4]


def test_news_never_delays_a_check(database: Database) -> None:
    enqueue(database, kind="check", subject_kind="batch", subject="b", due=NOON)
    database.write(lambda c: checks.hurry(c, "batch", "valyu", "b", due=at(30), by="wait"))
    assert [(row.next_attempt_at, row.hurried_by) for row in rows(database, Job)] == [(NOON, None)]


@pytest.mark.parametrize(
    ("answered", "next_way"), [(True, "check"), (False, "webhook")], ids=["answered", "in vain"]
)
def test_hurried_check_brings_what_the_hurry_found(
    database: Database, answered: bool, next_way: str
) -> None:
    """Until the sender has answered: the look after that is the check's own again."""
    enqueue(database, kind="check", subject_kind="batch", subject="b", due=at(600))
    database.write(lambda c: checks.hurry(c, "batch", "valyu", "b", due=NOON, by="webhook"))
    (lease,) = claim(database)
    assert lease.found_by == "webhook"
    again: dict[str, Any] = {"after": 1.0, "failed": not answered, "answered": answered}
    database.write(lambda c: jobs.reschedule(c, lease, tried("not yet"), **again))
    (lease,) = claim(database, now=at(60))
    assert lease.found_by == next_way


def test_ending_checks_spares_others_and_itself(
    database: Database,
) -> None:
    mine = enqueue(database, kind="check", endpoint_id="e")
    enqueue(database, kind="check", endpoint_id="other")
    enqueue(database, endpoint_id="e")
    database.write(lambda c: checks.end(c, endpoint_id="e", now=NOON, keep=mine))
    assert [row.status for row in rows(database, Job)] == ["pending"] * 3
    database.write(lambda c: checks.end(c, endpoint_id="e", now=NOON))
    assert [row.status for row in rows(database, Job)] == ["done", "pending", "pending"]


def test_batch_checks_end_wherever_made(database: Database) -> None:
    about: dict[str, Any] = {"kind": "check", "subject_kind": "batch"}
    for endpoint_id, subject in (("e", "b"), (None, "b"), ("f", "c")):
        enqueue(database, endpoint_id=endpoint_id, subject=subject, **about)
    enqueue(database, endpoint_id="g", subject="b", source="other", **about)
    database.write(lambda c: checks.end(c, batch=("valyu", "b"), now=NOON))
    assert [row.status for row in rows(database, Job)] == ["done", "done", "pending", "pending"]


# --- claims -------------------------------------------------------------------------------------


def test_due_checks_take_half_the_slots(
    database: Database,
) -> None:
    fetches = [enqueue(database, due=at(-number)) for number in range(9, 4, -1)]
    checks = [
        enqueue(database, kind="check", endpoint_id=str(number), due=at(-number))
        for number in range(4, 0, -1)
    ]
    taken = {lease.job_id for lease in claim(database, limit=4)}
    assert taken == {*checks[:2], *fetches[:2]}
    assert {lease.job_id for lease in claim(database, limit=1)} == {checks[2]}


def test_checks_use_slots_nobody_needs(database: Database) -> None:
    checks = [enqueue(database, kind="check", endpoint_id=str(number)) for number in range(4)]
    assert {lease.job_id for lease in claim(database, limit=4)} == {*checks}


def test_check_not_due_is_not_claimed(database: Database) -> None:
    fetch = enqueue(database)
    enqueue(database, kind="check", endpoint_id="a", due=at(1))
    enqueue(database, kind="check", endpoint_id="b", source="parallel")
    assert [lease.job_id for lease in claim(database)] == [fetch]


# --- the check of an endpoint and the one without ---------------------------------------------


def live(store: Store) -> list[tuple[str | None, str]]:
    found = (row for row in rows(store.database, Job) if row.kind == "check")
    return [(row.endpoint_id, row.status) for row in found if row.status != "done"]


def test_endpoint_check_replaces_the_lone_one(store: Store) -> None:
    store.batches.check("valyu", "b")
    store.batches.check("valyu", "c")
    store.batches.check("parallel", "b")
    endpoint_id = store.endpoints.add("valyu", "batch", resource="b")
    assert live(store) == [(None, "pending"), (None, "pending"), (endpoint_id, "pending")]
    mine = [row for row in rows(store.database, Job) if (row.source, row.subject) == ("valyu", "b")]
    assert [(row.endpoint_id, row.status) for row in mine] == [
        (None, "done"),
        (endpoint_id, "pending"),
    ]


def test_running_lone_check_is_left_alone(store: Store) -> None:
    store.batches.check("valyu", "b")
    (lease,) = store.jobs.claim("valyu", limit=1)
    endpoint_id = store.endpoints.add("valyu", "batch", resource="b")
    assert live(store) == [(None, "running"), (endpoint_id, "pending")]
    store.jobs.finish(lease, tried())


def test_due_time_is_read_without_writing(store: Store) -> None:
    assert store.batches.watched("valyu", "b") is None
    assert store.batches.check_due("valyu", "b") is None
    store.batches.check("valyu", "b", after=timedelta(seconds=30))
    before = contents(store.database)
    known, due = store.batches.watched("valyu", "b"), store.batches.check_due("valyu", "b")
    assert known is not None
    assert (known.state, known.endpoint_id) == ("open", None)
    assert due is not None
    assert timedelta(seconds=10) < due <= timedelta(seconds=30)
    assert store.batches.check_due("parallel", "b") is None
    assert contents(store.database) == before


@pytest.mark.parametrize("wrong", [{"status": "lost"}, {"kind": "guess"}, {"event_id": 404}])
def test_database_refuses_unknown_job_states(database: Database, wrong: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError):
        enqueue(database, **wrong)


# --- checks that somebody waits for -------------------------------------------------------------


def test_wanted_check_is_due_and_says_for_whom(store: Store) -> None:
    store.batches.register("valyu", "b", endpoint_id=None)
    assert store.jobs.claim("valyu", limit=1) == []
    assert store.batches.want_check("valyu", "b") == "due"
    (lease,) = store.jobs.claim("valyu", limit=1)
    assert lease.found_by == "wait"
    assert store.batches.want_check("valyu", "b") == "running"


def test_only_a_live_check_is_wanted(store: Store) -> None:
    assert store.batches.want_check("valyu", "b") == "none"
    assert store.jobs.claim("valyu", limit=1) == []
