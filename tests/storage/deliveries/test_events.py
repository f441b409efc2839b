"""The promise of a 2xx: raw bytes, identity and the work, once for each event."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, select, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import col

from storage import CannotStore, NotFound, Store
from storage.database import Database
from storage.deliveries import recording
from storage.deliveries.recording import MAX_BODIES, VerifiedDelivery
from storage.models import Delivery, Event, Job
from tests.storage.build import (
    NOON,
    claim,
    contents,
    deliver,
    delivery,
    record,
    rows,
    tried,
    undone,
)

# --- one delivery -------------------------------------------------------------------------------


def test_delivery_kept_with_event_and_job(database: Database) -> None:
    raw = b'\xff\x00{"id": "run-1"}\n'
    assert record(database, delivery(body=raw, endpoint_id="e")) == ["accepted"]
    (event,), (kept,), (job,) = (rows(database, table) for table in (Event, Delivery, Job))
    assert (event.source, event.key, event.disposition) == ("valyu", "event", "fetch")
    assert (kept.event_id, kept.body, kept.headers) == (event.id, raw, "webhook-id: 1\n")
    assert (job.event_id, job.kind, job.status) == (event.id, "fetch", "pending")
    assert (job.subject_kind, job.subject, job.endpoint_id) == ("run", "run-1", "e")
    assert event.received_at == kept.received_at == job.next_attempt_at == job.created_at == NOON


def test_new_job_is_due_at_once(database: Database) -> None:
    record(database, delivery())
    (lease,) = claim(database, now=NOON)
    assert (lease.event_id, lease.progress) == (1, {})


def test_job_not_awaiting_end_is_marked(database: Database) -> None:
    record(database, delivery(awaits_end=False))
    assert claim(database)[0].progress == {"awaits_end": False}


def test_repeated_event_has_no_second_effect(database: Database) -> None:
    outcomes = [record(database, delivery())[0] for _ in range(3)]
    assert outcomes == ["accepted", "duplicate", "duplicate"]
    assert len(rows(database, Event)) == len(rows(database, Job)) == 1
    (kept,) = rows(database, Delivery)
    assert (kept.copies, kept.last_copy_at) == (2, NOON)


def test_duplicate_inside_one_group_is_seen(database: Database) -> None:
    assert record(database, *[delivery()] * 3) == ["accepted", "duplicate", "duplicate"]
    assert len(rows(database, Event)) == len(rows(database, Job)) == 1
    assert rows(database, Delivery)[0].copies == 2


def test_ignored_event_makes_no_job(database: Database) -> None:
    ignored = delivery(disposition="ignored")
    assert record(database, ignored, delivery(body=b"2", disposition="ignored"))[0] == "accepted"
    assert len(rows(database, Delivery)) == 2
    assert rows(database, Job) == []


def test_unusable_delivery_becomes_dead_letter(database: Database) -> None:
    record(database, delivery(disposition="unusable", subject=None, reason="it names another"))
    (job,) = rows(database, Job)
    assert (job.status, job.reason, job.ended_at) == ("dead", "it names another", NOON)
    assert claim(database) == []


# --- differing bodies ---------------------------------------------------------------------------


def test_same_key_other_body_makes_fetch(database: Database) -> None:
    record(database, delivery(body=b"1"))
    assert record(database, delivery(body=b"2")) == ["duplicate"]
    assert [row.body for row in rows(database, Delivery)] == [b"1", b"2"]
    assert [row.event_id for row in rows(database, Job)] == [1, 1]


@pytest.mark.parametrize("awaits_end", [True, False])
def test_fetch_for_other_body_needs_newer_result(database: Database, awaits_end: bool) -> None:
    hints = {"batch": "b", "status": "completed"}
    for body in (b"1", b"2", b"2"):
        record(database, delivery(body=body, hints=hints, awaits_end=awaits_end))
    assert [row.progress for row in rows(database, Job)] == [
        {**hints, "awaits_end": awaits_end},
        {"again": True, "awaits_end": awaits_end},
    ]


def test_differing_bodies_in_group_make_fetches(database: Database) -> None:
    assert len(record(database, *[delivery(body=b"%d" % n) for n in range(3)])) == 3
    assert [row.body for row in rows(database, Delivery)] == [b"0", b"1", b"2"]
    assert len(rows(database, Job)) == 3


def test_surplus_bodies_counted_while_fetch_pending(
    database: Database,
) -> None:
    for number in range(MAX_BODIES + 3):
        record(database, delivery(body=b"%d" % number))
    assert [row.copies for row in rows(database, Delivery)] == [0, 0, 0, 0, 3]
    assert len(rows(database, Job)) == MAX_BODIES


@pytest.mark.parametrize("status", ["running", "done", "dead"])
def test_surplus_body_fetched_when_none_pending(database: Database, status: str) -> None:
    record(database, *[delivery(body=b"%d" % number) for number in range(MAX_BODIES)])
    record(database, delivery("another"))
    database.write(
        lambda c: c.execute(update(Job).where(col(Job.event_id) == 1).values(status=status))
    )
    for number in range(2):
        assert record(database, delivery(body=b"late %d" % number)) == ["duplicate"]
    assert [row.copies for row in rows(database, Delivery)] == [0, 0, 0, 0, 2, 0]
    assert [row.event_id for row in rows(database, Job) if row.status == "pending"] == [2, 1]


def test_body_limit_is_per_event(database: Database) -> None:
    bodies = [delivery(key, b"%d" % n) for key in ("a", "b") for n in range(MAX_BODIES)]
    record(database, *bodies)
    assert len(rows(database, Delivery)) == 2 * MAX_BODIES


def test_first_of_differing_twins_is_kept(
    database: Database,
) -> None:
    record(database, delivery(body=b"1"))
    record(database, *[delivery(body=b"2", headers=text) for text in ("first", "second")])
    assert rows(database, Delivery)[1].headers == "first"


def test_differing_body_repeated_in_group_is_dated(database: Database) -> None:
    record(database, delivery(body=b"1"))
    record(database, delivery(body=b"2"), delivery(body=b"2"))
    assert [(row.copies, row.last_copy_at) for row in rows(database, Delivery)][1] == (1, NOON)


# --- identity -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("valyu", "event"), ("parallel", "event")),
        (("valyu", "event"), ("valyu", "event ")),
        (("valyu", "a\x00b"), ("valyu", "a")),
        (("valyu", "b"), ("valy", "ub")),
        (("valyu", ""), ("valyu", "\x00")),
    ],
)
def test_other_source_or_key_is_another_event(
    database: Database, one: tuple[str, str], other: tuple[str, str]
) -> None:
    group = [delivery(key, source=source) for source, key in (one, other)]
    assert record(database, *group) == ["accepted", "accepted"]


NAMES = st.text(min_size=1, max_size=8).filter(lambda text: "\x00" not in text)
"""A source is a configured word: never with a NUL. A key is whatever the sender says."""


@given(st.tuples(NAMES, st.text(max_size=8)), st.tuples(NAMES, st.text(max_size=8)))
def test_key_digest_covers_source_and_key(one: tuple[str, str], other: tuple[str, str]) -> None:
    digests = {delivery(key, source=source).key_digest for source, key in (one, other)}
    assert len(digests) == len({one, other})


# --- groups -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad", [{"digest": None}, {"headers": None}, {"source": None}, {"disposition": "guess"}]
)
def test_row_refused_by_database_fails_alone(store: Store, bad: dict[str, Any]) -> None:
    group = [delivery("a"), delivery("bad", **bad), delivery("b"), delivery("a")]
    first, error, second, again = deliver(store, *group)
    assert [first, second, again] == ["accepted", "accepted", "duplicate"]
    assert isinstance(error, IntegrityError)
    assert [row.key for row in rows(store.database, Event)] == ["a", "b"]
    assert len(rows(store.database, Delivery)) == len(rows(store.database, Job)) == 2


@pytest.mark.parametrize("bad", [{"key": "\ud800"}, {"headers": "\udfff"}])
def test_row_that_cannot_be_encoded_fails_alone(store: Store, bad: dict[str, Any]) -> None:
    group = [delivery("a"), delivery(**{"key": "bad", **bad})]
    outcomes = deliver(store, *group)
    assert outcomes[0] == "accepted"
    assert isinstance(outcomes[1], UnicodeEncodeError)
    assert [row.key for row in rows(store.database, Event)] == ["a"]


def test_a_bad_row_alone_leaves_nothing(store: Store) -> None:
    before = contents(store.database)
    assert isinstance(deliver(store, delivery(digest=None))[0], IntegrityError)
    assert contents(store.database) == before


def test_group_of_thousand_keeps_its_order(database: Database) -> None:
    group = [delivery(f"event-{n}", b"%d" % n) for n in range(1000)]
    assert record(database, *group, group[7], group[993]) == ["accepted"] * 1000 + ["duplicate"] * 2
    events, deliveries, jobs = (rows(database, model) for model in (Event, Delivery, Job))
    assert [row.event_id for row in deliveries] == [row.event_id for row in jobs]
    assert [row.event_id for row in jobs] == [row.id for row in events]
    if database.is_shared:  # in whichever order all that write at once agree upon
        events.sort(key=lambda row: int(row.key.removeprefix("event-")))
        deliveries.sort(key=lambda row: int(row.body))
    assert [row.key for row in events] == [d.key for d in group]
    assert [row.body for row in deliveries] == [d.body for d in group]


def test_an_empty_group_is_nothing(database: Database) -> None:
    assert record(database) == []


MEANINGS = ["fetch", "ignored", "unusable"] + ["fetch"] * (MAX_BODIES - 1)
"""The meanings of the bodies 0, 1, 2 and so on: more of them than are kept."""

GROUPS = st.lists(
    st.lists(
        st.builds(
            lambda key, number: delivery(key, b"%d" % number, disposition=MEANINGS[number]),
            st.sampled_from(["a", "b"]),
            st.integers(0, len(MEANINGS) - 1),
        ),
        max_size=8,
    ),
    max_size=5,
)


def left_by(groups: list[list[VerifiedDelivery]], connection: Connection) -> Any:
    """The answers and the rows of all tables, without the order of keys."""
    outcomes = [o for group in groups for o in recording.record(connection, group, now=NOON)]
    bodies = select(col(Event.key), col(Delivery.body), col(Delivery.copies)).join(
        Delivery, col(Delivery.event_id) == col(Event.id)
    )
    work = select(
        col(Event.key), col(Event.disposition), col(Job.status), col(Job.subject)
    ).outerjoin(Job, col(Job.event_id) == col(Event.id))
    return outcomes, *(Counter(connection.execute(query).all()) for query in (bodies, work))


@settings(max_examples=40, deadline=None)
@given(groups=GROUPS)
def test_grouping_stores_what_single_rows_store(
    scratch: Database, groups: list[list[VerifiedDelivery]]
) -> None:
    singly = [[one] for group in groups for one in group]
    assert undone(scratch, lambda c: left_by(groups, c)) == undone(
        scratch, lambda c: left_by(singly, c)
    )


# --- through the store --------------------------------------------------------------------------


def test_the_store_answers_after_the_commit(store: Store) -> None:
    assert deliver(store, delivery(), delivery()) == ["accepted", "duplicate"]
    assert len(store.events.list_newest()) == 1


def test_a_closed_store_takes_no_delivery(store: Store) -> None:
    store.close()
    with pytest.raises(CannotStore):
        deliver(store, delivery())


# --- reading ------------------------------------------------------------------------------------


def test_events_listed_newest_first_with_jobs(store: Store) -> None:
    record(store.database, delivery("a"), delivery("a"), delivery("b", disposition="ignored"))
    listed = [(row["key"], row["deliveries"], row["jobs"]) for row in store.events.list_newest()]
    assert listed == [("b", 1, None), ("a", 2, "pending")]
    assert [row["key"] for row in store.events.list_newest(limit=1)] == ["b"]


def test_events_are_listed_by_source(store: Store) -> None:
    record(store.database, delivery(), delivery(source="parallel"))
    assert [row["source"] for row in store.events.list_newest(source="valyu")] == ["valyu"]


def test_event_shown_with_all_its_rows(store: Store) -> None:
    record(store.database, delivery("a", b"1"), delivery("a", b"2"), delivery("b"))
    lease = claim(store.database, limit=1)[0]
    store.jobs.finish(lease, tried())
    shown = store.events.show(1)
    assert [row["body"] for row in shown["deliveries"]] == [b"1", b"2"]
    assert sorted(row["status"] for row in shown["jobs"]) == ["done", "pending"]
    assert [row["outcome"] for row in shown["attempts"]] == ["done"]


def test_unknown_event_is_not_found(store: Store) -> None:
    with pytest.raises(NotFound, match="no event 404"):
        store.events.show(404)


def test_kept_bodies_returned_newest_first(store: Store) -> None:
    for body in (b"1", b"2", b"1"):
        record(store.database, delivery(body=body))
    record(store.database, delivery("other", b"3"))
    assert store.events.bodies(1) == [b"2", b"1"]
    assert store.events.bodies(404) == []


def test_dead_letters_are_listed_newest_first(store: Store) -> None:
    for key in ("a", "b"):
        record(store.database, delivery(key, disposition="unusable", reason=key))
    record(store.database, delivery("alive"))
    assert [row["reason"] for row in store.jobs.list_dead()] == ["b", "a"]
    assert [row["reason"] for row in store.jobs.list_dead(limit=1)] == ["b"]
