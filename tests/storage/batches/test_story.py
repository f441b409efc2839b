"""The story of a batch: whatever happened in whatever order, its numbers fit together."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, event

from storage import (
    FIRST_CHECK,
    WAYS,
    BatchStory,
    FetchedBatch,
    FetchedRun,
    FoundBy,
    Ledger,
    Store,
    SubmittedRun,
)
from storage.batches import batches
from storage.batches import ledger as ledgers
from storage.database import Database
from storage.deliveries.quarantine import UnverifiedDelivery
from storage.jobs import checks
from storage.runs import results
from storage.runs.results import ResultPage
from storage.runs.rows import chunks_of
from storage.store.check_jobs import watch_reopened
from storage.store.story import story
from tests.storage.build import NOON, at, claim, enqueue, keep, run, tried, undone

NAMES = [f"run-{number}" for number in range(5)]
BATCHES = ["b", "c"]

Step = Callable[[Connection, int], None]

# --- whatever happens ---------------------------------------------------------------------------


@st.composite
def added(draw: st.DrawFn) -> Step:
    """Runs that the sender accepted, perhaps some without ids."""
    names = draw(st.lists(st.sampled_from(NAMES), unique=True))
    batch_id, submitted = draw(st.sampled_from(BATCHES)), draw(st.integers(0, 6))
    runs = [SubmittedRun(f"{batch_id}-{name}", None, None) for name in names]

    def step(connection: Connection, number: int) -> None:
        del number
        batches.add_runs(connection, "valyu", batch_id, runs, submitted=submitted)

    return step


@st.composite
def shown(draw: st.DrawFn) -> Step:
    """A page of runs: going on, ended, ended without their result, ended again, in any order."""
    statuses = st.sampled_from(["queued", "running", "completed", "failed", "cancelled"])
    page = draw(
        st.lists(
            st.builds(
                run,
                run_id=st.sampled_from(NAMES),
                status=statuses,
                output=st.sampled_from([None, "x", "y"]),
                is_whole=st.booleans(),
                has_output=st.booleans(),
                cost=st.sampled_from([None, 0.1, 0.2]),
            ),
            unique_by=lambda each: each.run_id,
        )
    )
    batch_id = draw(st.sampled_from(BATCHES))
    mine = [replace(each, run_id=f"{batch_id}-{each.run_id}", batch_id=batch_id) for each in page]
    way: FoundBy = draw(st.sampled_from(WAYS))
    fetched_at = draw(st.integers(0, 20))

    def step(connection: Connection, number: int) -> None:
        (chunk,) = chunks_of(mine)
        pages = [ResultPage(chunk.rows, at(fetched_at), way)]
        results.store(connection, "valyu", pages, now=at(number))
        watch_reopened(connection, "valyu", pages, at(number), first=FIRST_CHECK)

    return step


@st.composite
def told(draw: st.DrawFn) -> Step:
    """The sender's status with counts that agree with ours or not, and the end of a listing."""
    count = st.none() | st.integers(0, 8)
    total, ended, is_terminal = draw(count), draw(count), draw(st.booleans())
    agrees, settles = draw(st.booleans()), draw(st.booleans())
    batch_id = draw(st.sampled_from(BATCHES))

    def step(connection: Connection, number: int) -> None:
        known = ledgers.ledger(connection, "valyu", batch_id).expected
        counts = {"total": known, "ended": known} if agrees else {"total": total, "ended": ended}
        batch = FetchedBatch(batch_id, "status", is_terminal=is_terminal, **counts)
        batches.save(connection, "valyu", batch, announced=False, now=at(number))
        if settles:
            batches.settle(connection, "valyu", batch, now=at(number))

    return step


def test_numbers_of_a_story_fit_together(database: Database) -> None:
    @settings(max_examples=40)
    @given(steps=st.lists(added() | shown() | told(), max_size=12))
    def check(steps: list[Step]) -> None:
        undone(database, partial(happen, steps))

    check()


def happen(steps: list[Step], connection: Connection) -> None:
    """Let all of it happen, one after the other; after each the numbers fit together."""
    for batch_id in BATCHES:
        batches.register(connection, source="valyu", batch_id=batch_id, endpoint_id=None, now=NOON)
    newest: list[Ledger] = []
    for number, step in enumerate(steps):
        step(connection, number)
        newest, _ = ledgers.list_page(connection, sources=None, limit=9, before=None)
        for batch in newest:
            assert batch == ledgers.ledger(connection, "valyu", batch.batch_id)
            adds_up(batch)
            is_open = batches.watched(connection, "valyu", batch.batch_id)
            assert is_open is not None
            assert is_open.state == batch.state, "a batch that is open is looked at again"
    for batch in newest:
        agrees(story(connection, batch, runs=9, now=NOON))


def adds_up(batch: Ledger) -> None:
    assert 0 <= batch.failed <= batch.stored <= batch.announced <= batch.expected
    assert batch.stored <= batch.known <= batch.expected == batch.stored + batch.missing
    assert batch.state == "open" or not batch.missing
    assert (batch.completed_at is None) == (batch.state == "open")


def agrees(found: BatchStory) -> None:
    assert len(found.missing_runs) + found.unnamed == found.ledger.missing
    assert sum(found.arrivals.found_by.values()) == found.ledger.stored


# --- what it tells ------------------------------------------------------------------------------


def told_of(database: Database, *, now: Any = NOON, runs: int = 9) -> BatchStory:
    with database.read() as connection:
        return story(connection, ledgers.ledger(connection, "valyu", "b"), runs=runs, now=now)


def registered(database: Database, **more: Any) -> None:
    given = {"source": "valyu", "batch_id": "b", "endpoint_id": None, "now": NOON, **more}
    database.write(lambda c: batches.register(c, **given))


def put(database: Database, one: FetchedRun, way: FoundBy) -> None:
    database.write(lambda c: keep(c, one, found_by=way))


def test_ways_and_costs_are_summed(database: Database) -> None:
    registered(database)
    ways: list[FoundBy] = ["check", "webhook", "webhook"]
    for number, way in enumerate(ways):
        put(database, run(f"r{number}", batch_id="b", cost=0.1), way)
    put(database, run("r9", batch_id="b", status="failed"), "hand")
    arrivals = told_of(database).arrivals
    assert arrivals.found_by == {"webhook": 2, "check": 1, "hand": 1}
    assert arrivals.cost == 0.3


def test_missing_runs_are_cut_and_counted(database: Database) -> None:
    registered(database)
    runs = [SubmittedRun(f"r{number}", None, None) for number in range(30)]
    database.write(lambda c: batches.add_runs(c, "valyu", "b", runs))
    found = told_of(database, runs=20)
    assert (len(found.missing_runs), found.ledger.missing) == (20, 30)
    assert found.missing_runs[0]["run_id"] == "r0"


def test_next_look_is_the_first_of_check_and_webhook(database: Database) -> None:
    registered(database)
    assert told_of(database).next_look is None
    mine = {"subject_kind": "batch", "subject": "b"}
    enqueue(database, kind="check", due=at(600), **mine)
    assert told_of(database).next_look == {"due": at(600), "is_running": False}
    database.write(lambda c: checks.hurry(c, "batch", "valyu", "b", due=at(60), by="wait"))
    assert told_of(database).next_look == {"due": at(60), "is_running": False}
    enqueue(database, due=at(5), **mine)
    assert told_of(database).next_look == {"due": at(5), "is_running": False}
    claim(database, now=at(5))
    assert told_of(database).next_look == {"due": at(5), "is_running": True}


def test_story_has_the_sender_s_counts_with_their_time(database: Database) -> None:
    registered(database)
    assert told_of(database).sender is None
    batch = FetchedBatch("b", "running", is_terminal=False, total=3, counts={"queued": 3})
    database.write(lambda c: batches.save(c, "valyu", batch, announced=False, now=at(7)))
    counts = {"total": 3, "ended": None, "by_status": {"queued": 3}, "read_at": at(7)}
    assert told_of(database).sender == counts


def test_refused_deliveries_of_its_endpoint_are_counted(store: Store) -> None:
    mine, other = (store.endpoints.add("valyu", "batch") for _ in range(2))
    store.batches.register("valyu", "b", endpoint_id=mine)
    for endpoint_id in (mine, other, mine, None):
        refused = UnverifiedDelivery("valyu", endpoint_id, "mismatch", "", "", b"")
        store.quarantine.keep(refused)
    webhooks = store.batches.story("b").webhooks
    assert (webhooks.refused, webhooks.newest_refused, webhooks.reason) == (2, 3, "mismatch")


def test_complete_group_that_takes_a_run_is_checked_again(store: Store) -> None:
    """A run that was added elsewhere, seen before any count of the sender names it."""
    store.batches.register("valyu", "b", endpoint_id=None)
    store.runs.note("valyu", run("r1", batch_id="b"), fetched_at=NOON)
    (lease,) = _hurried(store)
    batch = FetchedBatch("b", "done", is_terminal=True, total=1, ended=1)
    store.batches.save(lease, batch)
    assert store.batches.settle(lease, batch).state == "complete"
    store.jobs.finish(lease, tried())
    store.runs.note("valyu", run("r2", "running", batch_id="b"), fetched_at=NOON)
    found = store.batches.story("b")
    assert (found.ledger.state, found.ledger.missing) == ("open", 1)
    assert found.next_look is not None


@pytest.mark.parametrize("count", [1, 30])
def test_ledgers_of_a_page_take_as_few_statements_as_one(database: Database, count: int) -> None:
    for number in range(count):
        registered(database, batch_id=f"b{number}")
    statements: list[str] = []
    with database.read() as connection:
        event.listen(
            connection, "before_cursor_execute", lambda *given: statements.append(given[2])
        )
        found, _ = ledgers.list_page(connection, sources=None, limit=100, before=None)
    assert (len(found), len(statements)) == (count, 2)


def _hurried(store: Store) -> Any:
    store.batches.check("valyu", "b")
    return store.jobs.claim("valyu", limit=1)
