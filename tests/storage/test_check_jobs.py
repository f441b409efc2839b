"""Checks: one for each endpoint and batch, hurried by news and ended by results."""

from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from storage import jobs
from storage.database import Database
from storage.models import Job
from tests.storage.build import (
    NOON,
    at,
    enqueue,
    rows,
)


@pytest.mark.parametrize("live", ["pending", "running"])
def test_an_endpoint_has_one_live_check(database: Database, live: str) -> None:
    enqueue(database, kind="check", endpoint_id="e", status=live)
    enqueue(database, kind="check", endpoint_id="e")
    assert len(rows(database, Job)) == 1


@pytest.mark.parametrize("ended", ["done", "dead", "abandoned"])
def test_an_endpoint_may_be_checked_again_after_its_check_ended(
    database: Database, ended: str
) -> None:
    enqueue(database, kind="check", endpoint_id="e", status=ended)
    enqueue(database, kind="check", endpoint_id="e")
    assert [row.status for row in rows(database, Job)] == [ended, "pending"]


def test_fetches_of_one_endpoint_do_not_exclude_each_other(database: Database) -> None:
    enqueue(database, endpoint_id="e")
    enqueue(database, endpoint_id="e")
    assert len(rows(database, Job)) == 2


def test_the_jobs_of_an_endpoint_learn_their_subject_where_they_have_none(
    database: Database,
) -> None:
    for endpoint, subject in (("e", None), ("e", "another"), ("other", None)):
        enqueue(database, endpoint_id=endpoint, subject=subject)
    database.write(lambda c: jobs.learn_subject(c, "e", "mine"))
    assert [row.subject for row in rows(database, Job)] == ["mine", "another", None]


def test_only_the_waiting_check_of_its_subject_is_made_due(database: Database) -> None:
    mine: dict[str, Any] = {"kind": "check", "subject_kind": "batch", "subject": "b"}
    others = [{"kind": "fetch"}, {"source": "other"}, {"subject_kind": "run"}, {"subject": "c"}]
    for number, other in enumerate([{}, *others]):
        how = {**mine, **other, "endpoint_id": str(number), "waits": 3, "trying_since": NOON}
        enqueue(database, due=at(600), **how)
    database.write(lambda c: jobs.hurry(c, "batch", "valyu", "b", due=NOON))
    assert [row.next_attempt_at for row in rows(database, Job)] == [NOON, *[at(600)] * 4]
    assert [row.waits for row in rows(database, Job)] == [0, 3, 3, 3, 3]
    assert [row.trying_since for row in rows(database, Job)] == [None, *[NOON] * 4]


def test_news_makes_no_check_later_than_it_was(database: Database) -> None:
    enqueue(database, kind="check", subject_kind="batch", subject="b", due=NOON)
    database.write(lambda c: jobs.hurry(c, "batch", "valyu", "b", due=at(30)))
    assert [row.next_attempt_at for row in rows(database, Job)] == [NOON]


def test_the_end_of_the_checks_spares_others_and_the_one_that_says_so(
    database: Database,
) -> None:
    mine = enqueue(database, kind="check", endpoint_id="e")
    enqueue(database, kind="check", endpoint_id="other")
    enqueue(database, endpoint_id="e")
    database.write(lambda c: jobs.end_checks(c, endpoint_id="e", now=NOON, but=mine))
    assert [row.status for row in rows(database, Job)] == ["pending"] * 3
    database.write(lambda c: jobs.end_checks(c, endpoint_id="e", now=NOON))
    assert [row.status for row in rows(database, Job)] == ["done", "pending", "pending"]


def test_the_checks_of_a_batch_end_wherever_they_came_from(database: Database) -> None:
    about: dict[str, Any] = {"kind": "check", "subject_kind": "batch"}
    for endpoint_id, subject in (("e", "b"), (None, "b"), ("f", "c")):
        enqueue(database, endpoint_id=endpoint_id, subject=subject, **about)
    enqueue(database, endpoint_id="g", subject="b", source="other", **about)
    database.write(lambda c: jobs.end_checks(c, batch=("valyu", "b"), now=NOON))
    assert [row.status for row in rows(database, Job)] == ["done", "done", "pending", "pending"]


@pytest.mark.parametrize("wrong", [{"status": "lost"}, {"kind": "guess"}, {"event_id": 404}])
def test_the_database_refuses_a_job_that_the_code_would_not_know(
    database: Database, wrong: dict[str, Any]
) -> None:
    with pytest.raises(IntegrityError):
        enqueue(database, **wrong)
