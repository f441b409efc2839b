"""Old news changes nothing, newer news is appended, the same news only fills in."""

import json
import sys
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, Row, event, select
from sqlalchemy.exc import IntegrityError, StatementError
from sqlmodel import col

import storage
from storage import FetchedRun, LeaseLost, Store, Stored
from storage.database import Database, insert
from storage.json_text import clean
from storage.models import Result, Run
from storage.runs import results
from storage.runs.merges import current_results, merges
from storage.runs.results import ResultPage
from storage.runs.rows import row_of
from tests.storage.build import NOON, at, claimed, job, keep, rows, run, undone


def put(database: Database, *page: FetchedRun, fetched_at: datetime = NOON, **how: Any) -> Stored:
    return database.write(lambda c: keep(c, *page, fetched_at=fetched_at, **how))


def current(database: Database) -> Row[Any]:
    """The one current result."""
    (row,) = [row for row in rows(database, Result) if row.is_current]
    return row


# --- versions -----------------------------------------------------------------------------------


def test_the_first_result_is_version_one(database: Database) -> None:
    assert put(database, run(output={"a": 1}, cost=0.5)) == Stored(new=1)
    row = current(database)
    assert (row.version, row.output, row.cost, row.origin) == (1, {"a": 1}, 0.5, "api")
    assert (row.fetched_at, row.stored_at, row.cleaned) == (NOON, NOON, False)


def test_the_same_result_again_changes_nothing(database: Database) -> None:
    put(database, run(output="x"))
    assert put(database, run(output="x"), fetched_at=at(1)) == Stored(unchanged=1)
    assert len(rows(database, Result)) == 1


def test_newer_result_becomes_current(database: Database) -> None:
    put(database, run(output="x"))
    assert put(database, run(output="y"), fetched_at=at(1)) == Stored(versions=1)
    versions = [(row.version, row.output, row.is_current) for row in rows(database, Result)]
    assert versions == [(1, "x", False), (2, "y", True)]


def test_each_version_keeps_the_way_it_came(database: Database) -> None:
    put(database, run(output="x"), found_by="webhook")
    put(database, run(output="x"), found_by="wait", fetched_at=at(1))  # the same again
    assert current(database).found_by == "webhook"
    put(database, run(output="y"), found_by="reconcile", fetched_at=at(2))
    assert [row.found_by for row in rows(database, Result)] == ["webhook", "reconcile"]


@pytest.mark.parametrize(
    ("stamp", "fetched", "is_news"),
    [(-1, 5, False), (1, -5, True), (0, 1, True), (0, 0, False), (0, -1, False)],
)
def test_sender_s_stamp_decides_before_fetch_time(
    database: Database, stamp: int, fetched: int, is_news: bool
) -> None:
    put(database, run(output="x", completed_at=NOON))
    other = run(output="y", completed_at=at(stamp))
    assert put(database, other, fetched_at=at(fetched)).versions == int(is_news)
    assert current(database).output == ("y" if is_news else "x")


def test_stamped_result_is_newer_than_any_without(database: Database) -> None:
    put(database, run(output="x"), fetched_at=at(5))
    put(database, run(output="y", completed_at=NOON), fetched_at=at(1))
    assert put(database, run(status="failed", error="z"), fetched_at=at(9)) == Stored(unchanged=1)
    assert current(database).output == "y"
    assert [row.status for row in rows(database, Run)] == ["completed"]  # no other end is awaited


def test_repeated_content_outdates_earlier_fetches(
    database: Database,
) -> None:
    put(database, run(output="x"), fetched_at=at(1))
    put(database, run(output="x"), fetched_at=at(3))
    assert put(database, run(output="y"), fetched_at=at(2)) == Stored(unchanged=1)


def test_time_noted_ahead_outdates_nothing(
    database: Database,
) -> None:
    put(database, run("run-1", "failed"), fetched_at=at(3600), now=at(3600))
    assert put(database, run(output="y"), fetched_at=at(9), now=at(10)) == Stored(versions=1)
    assert current(database).output == "y"
    assert [(row.status, row.seen_at) for row in rows(database, Run)] == [("completed", at(9))]


def test_run_may_return_to_earlier_content(database: Database) -> None:
    for moment, output in enumerate("xyx"):
        put(database, run(output=output), fetched_at=at(moment))
    assert [(row.version, row.output) for row in rows(database, Result)] == [
        (1, "x"),
        (2, "y"),
        (3, "x"),
    ]


def test_page_brings_new_versioned_and_unchanged_results(database: Database) -> None:
    put(database, run("a", output=1), run("b", output=1))
    page = run("a", output=1), run("b", output=2), run("c", output=1), run("d", "running")
    assert put(database, *page, fetched_at=at(1)) == Stored(new=1, versions=1, unchanged=2)


def test_document_is_stored_verbatim(database: Database) -> None:
    told: dict[str, Any] = {"b": 1, "a": [1.5, None, True, "é😀"]}
    put(database, run(output=told, sources=[told]), run("none"))
    one, other = rows(database, Result)
    assert (one.output, list(one.output), one.sources) == (told, ["b", "a"], [told])
    assert (other.output, other.sources) == (None, None)


def test_typeless_call_replaces_only_its_kind(
    database: Database,
) -> None:
    csv: dict[str, Any] = {"output_type": "csv"}
    put(database, run(output={"n": "5"}, **csv))
    put(database, run(output={"n": "6"}, **csv), fetched_at=at(1))
    assert current(database).output == {"n": "6"}
    put(database, run(output={"n": 6}, output_type="json"), fetched_at=at(2))
    put(database, run(output={"n": "7"}, **csv), fetched_at=at(3))
    assert current(database).output == {"n": 6}


def test_run_twice_on_page_is_stored_once(database: Database) -> None:
    assert put(database, run(output="x"), run(output="x")) == Stored(new=1)


def test_end_on_page_beats_its_earlier_state(database: Database) -> None:
    assert put(database, run(output="x"), run(status="running")) == Stored(new=1)
    assert rows(database, Run)[0].status == "completed"


def test_an_empty_page_is_nothing(database: Database) -> None:
    assert put(database) == Stored()


def test_equal_ids_of_two_sources_differ(database: Database) -> None:
    put(database, run(output="x"))
    page = ResultPage([row_of(run(output="y"))], at(1), "check")
    stored = database.write(lambda c: results.store(c, "parallel", [page], now=at(1)))
    assert stored == [Stored(new=1)]


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_ended_run_without_output_is_result(database: Database, status: str) -> None:
    put(database, run(status=status, error="no credit", has_output=False))
    assert (current(database).status, current(database).error) == (status, "no credit")


def test_completed_run_without_output_is_none(database: Database) -> None:
    assert put(database, run(has_output=False)) == Stored(unchanged=1)
    assert rows(database, Run)[0].status == "completed"
    assert rows(database, Result) == []


def test_the_database_keeps_one_current_version(database: Database) -> None:
    put(database, run(output="x"))
    put(database, run(output="y"), fetched_at=at(1))
    values = rows(database, Result)[0]._mapping
    third = {**values, "id": 3, "version": 3, "is_current": True}
    with pytest.raises(IntegrityError):
        database.write(lambda c: c.execute(insert(Result).values(**third)))


# --- filling in ---------------------------------------------------------------------------------


def test_later_call_enriches_same_version(database: Database) -> None:
    put(database, run(output="x", raw={"a": 1}))
    more = run(output="x", cost=0.5, completed_at=NOON, output_type="text", raw={"b": 2})
    put(database, more, fetched_at=at(1))
    (row,) = rows(database, Result)
    assert (row.version, row.cost, row.completed_at, row.output_type) == (1, 0.5, NOON, "text")
    assert json.loads(row.raw) == {"a": 1, "b": 2}


def test_earlier_call_stored_later_fills_gaps(
    database: Database,
) -> None:
    put(database, run(output="x", cost=0.5, raw={"a": 2}), fetched_at=at(1))
    late = run(output="x", cost=0.1, output_type="text", raw={"a": 1, "b": 1})
    put(database, late, fetched_at=NOON)
    row = current(database)
    assert (row.cost, row.output_type, row.fetched_at) == (0.5, "text", at(1))
    assert json.loads(row.raw) == {"a": 2, "b": 1}


def test_filling_in_takes_nothing_away(database: Database) -> None:
    put(database, run(output="x", cost=0.5, completed_at=NOON))
    put(database, run(output="x"), fetched_at=at(1))
    assert (current(database).cost, current(database).completed_at) == (0.5, NOON)


def test_embedded_result_marked_until_api_confirms(database: Database) -> None:
    put(database, run(output="x"), origin="delivery")
    assert current(database).origin == "delivery"
    put(database, run(output="x"), fetched_at=at(1))
    assert current(database).origin == "api"


def test_embedded_result_never_replaces_api_result(
    database: Database,
) -> None:
    put(database, run(output="x"), fetched_at=at(1))
    put(database, run(output="y"), origin="delivery", fetched_at=NOON)
    assert (current(database).output, current(database).origin) == ("x", "api")


def statements_of(work: Callable[[], Any]) -> list[str]:
    said: list[str] = []

    def note(_conn: Any, _cursor: Any, statement: str, *_: Any) -> None:
        said.append(statement.replace(f"{storage.DEFAULT_SCHEMA}.", ""))

    event.listen(Engine, "before_cursor_execute", note)
    work()
    event.remove(Engine, "before_cursor_execute", note)
    return said


def listed(store: Store, *page: FetchedRun, fetched_at: datetime = NOON) -> Stored:
    """Store a page as a worker does."""
    lease = claimed(store.database)
    return store.results.store(lease, page, fetched_at=fetched_at, progress={})


def test_unchanged_results_read_no_raw_columns(store: Store, database: Database) -> None:
    page = [run(f"run-{number}", output=number) for number in range(3)]
    listed(store, *page)
    said = statements_of(lambda: listed(store, *page, fetched_at=at(1)))
    assert sum("raw" in statement for statement in said) == 1  # the look before the transaction
    assert sum(statement.startswith("UPDATE results") for statement in said) == 1
    assert {row.fetched_at for row in rows(database, Result)} == {at(1)}


def test_progress_never_exceeds_stored_pages(store: Store) -> None:
    lease = claimed(store.database, progress={"refusals": 1})
    page = [run(str(number)) for number in range(600)]
    refused = run("bad", created_at="no time")
    with pytest.raises(StatementError):
        store.results.store(lease, [*page, refused], fetched_at=NOON, progress={"refusals": 2})
    assert len(rows(store.database, Result)) == 500
    assert job(store.database, lease.job_id).progress == {"refusals": 1}
    store.results.store(lease, page, fetched_at=NOON, progress={"refusals": 2})
    assert len(rows(store.database, Result)) == 600
    assert job(store.database, lease.job_id).progress == {"refusals": 2}


def test_lost_lease_stores_no_page(store: Store) -> None:
    lease = claimed(store.database)
    page = [run(str(number), "running") for number in range(600)]
    store.jobs.give_back([lease])
    with pytest.raises(LeaseLost):
        store.results.store(lease, page, fetched_at=NOON, progress={})
    assert rows(store.database, Run) == []


@pytest.mark.parametrize("between", [{"b": 3, "d": 3}, {"a": 1}])
def test_enrichment_after_look_is_not_lost(database: Database, between: dict[str, Any]) -> None:
    put(database, run(output="x", raw={"a": 1}))
    again = [row_of(run(output="x", raw={"b": 2}))]
    with database.read() as connection:
        found = current_results(connection, "valyu", again)
    known = merges(again, found, fetched_at=at(2), now=at(2))
    put(database, run(output="x", raw=between), fetched_at=at(-1))
    page = ResultPage(again, at(2), "check", merges=known)
    database.write(lambda c: results.store(c, "valyu", [page], now=at(2)))
    assert json.loads(current(database).raw) == {"a": 1, **between, "b": 2}


def test_raw_nested_too_deeply_stays(database: Database) -> None:
    deep: Any = []
    for _ in range(900):
        deep = [deep]
    put(database, run(output="x", raw={"a": deep}))
    again = [row_of(run(output="x", raw={"b": 2}))]
    with database.read() as connection:
        found = current_results(connection, "valyu", again)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(500)
    known = merges(again, found, fetched_at=at(2), now=at(2))
    sys.setrecursionlimit(limit)
    assert known["run-1"].merged is None


# --- runs ---------------------------------------------------------------------------------------


def known(database: Database) -> Row[Any]:
    (row,) = rows(database, Run)
    return row


@pytest.mark.parametrize("later", [-1, 1])
@pytest.mark.parametrize("look", ["queued", "running"])
def test_look_without_end_undoes_no_end(database: Database, look: str, later: int) -> None:
    put(database, run(status="failed", sender_status="FAILED"))
    put(database, run(status=look), fetched_at=at(later))
    assert (known(database).status, known(database).sender_status) == ("failed", "FAILED")


@pytest.mark.parametrize("later", [-1, 1])
def test_end_counts_whenever_it_was_seen(database: Database, later: int) -> None:
    put(database, run(status="running"))
    put(database, run(output="x"), fetched_at=at(later))
    assert known(database).status == "completed"


@pytest.mark.parametrize(("one", "other"), [("failed", "completed"), ("running", "queued")])
def test_older_look_keeps_run_status(database: Database, one: str, other: str) -> None:
    put(database, run(status=one), fetched_at=at(1))
    put(database, run(status=other), fetched_at=NOON)
    assert (known(database).status, known(database).seen_at) == (one, at(1))


def test_later_look_only_fills_in(database: Database) -> None:
    full: dict[str, Any] = {"batch_id": "b", "task_id": "t", "runner": "fast", "created_at": NOON}
    put(database, run(status="running"))
    put(database, run(status="running", **full), fetched_at=at(1))
    put(database, run(output="x"), fetched_at=at(2))
    assert {name: getattr(known(database), name) for name in full} == full


def test_run_without_result_is_unseen_until_listed(store: Store) -> None:
    put(store.database, run("running", "running", batch_id="b"), run("done", batch_id="b"))
    put(store.database, run("empty", has_output=False, batch_id="b"), fetched_at=at(9))
    put(store.database, run("elsewhere", "running", batch_id="c"))
    assert store.runs.unseen("valyu", "b", since=at(1), limit=9) == ["running", "empty"]
    assert store.runs.unseen("valyu", "b", since=NOON, limit=9) == ["empty"]
    assert store.runs.unseen("valyu", "b", since=None, limit=9) == ["empty"]
    assert store.runs.unseen("valyu", "b", since=at(1), limit=1) == ["running"]


def test_run_ending_otherwise_is_unseen(store: Store) -> None:
    put(store.database, run("again", "failed", batch_id="b"), run("same", batch_id="b"))
    assert store.runs.unseen("valyu", "b", since=None, limit=9) == []
    put(store.database, run("again", has_output=False), fetched_at=at(1))
    assert store.runs.unseen("valyu", "b", since=None, limit=9) == ["again"]
    put(store.database, run("again"), fetched_at=at(2))
    assert store.runs.unseen("valyu", "b", since=None, limit=9) == []


def test_run_is_known_with_its_result(store: Store) -> None:
    put(store.database, run("a", "running", input={"q": 1}), run("b"))
    a, b = store.runs.find("valyu", "a"), store.runs.find("valyu", "b")
    assert a is not None
    assert b is not None
    assert (a.result, a.fetched_at, a.has_input) == (None, None, True)
    assert (b.result, b.fetched_at, b.has_input) == ("completed", NOON, False)
    assert [store.runs.find(*each) for each in [("parallel", "b"), ("valyu", "z")]] == [None, None]


def test_run_stays_in_its_batch(store: Store) -> None:
    put(store.database, run("a", "running", batch_id="b"))
    put(store.database, run("a", batch_id="c"), fetched_at=at(1))
    found = store.runs.find("valyu", "a")
    assert found is not None
    assert (known(store.database).batch_id, found.batch_id) == ("b", "b")


# --- cleaning -----------------------------------------------------------------------------------


def test_unstorable_characters_replaced_flagged_recoverable(database: Database) -> None:
    dirty = {"a\x00": ["x\ud800", {"deep": "\x00"}], "fine": "é😀"}
    put(database, run(output=dirty, error="\udfff", raw={"output": dirty}))
    row = current(database)
    assert row.output == {"a\ufffd": ["x\ufffd", {"deep": "\ufffd"}], "fine": "é😀"}
    assert (row.error, row.cleaned) == ("\ufffd", True)
    assert row.raw.isascii()
    assert json.loads(row.raw) == {"output": dirty}


@pytest.mark.parametrize("name", ["task_id", "runner", "output_type", "sender_status"])
def test_any_text_passes_through_a_page(database: Database, name: str) -> None:
    put(database, run("bad", **{name: "x\ud800\x00"}), run("good"))
    assert len(rows(database, Result)) == 2
    table = Result if name == "output_type" else Run
    assert getattr(rows(database, table)[0], name) == "x\ufffd\ufffd"
    assert [row.cleaned for row in rows(database, Result)] == [True, False]


def test_deeply_nested_run_kept_raw(
    database: Database,
) -> None:
    deep: Any = "x"
    for _ in range(700):
        deep = [deep]
    page = run("deep", output=deep, raw={"output": deep}), run("good", output="y")
    assert put(database, *page) == Stored(new=2)
    one, other = rows(database, Result)
    assert (one.output, one.cleaned, json.loads(one.raw)) == (None, True, {"output": deep})
    assert one.error == "nested too deeply for the columns: see raw"
    assert (other.output, other.error, other.cleaned) == ("y", None, False)


@pytest.mark.parametrize("name", ["output", "sources", "input"])
def test_nan_becomes_null_and_is_flagged(database: Database, name: str) -> None:
    told: dict[str, Any] = {name: {"a": [float("nan"), 1.5], "b": float("-inf")}}
    put(database, run(**told))
    table = Run if name == "input" else Result
    assert getattr(rows(database, table)[0], name) == {"a": [None, 1.5], "b": None}
    assert current(database).cleaned


def test_clean_content_is_not_flagged(database: Database) -> None:
    put(database, run(output={"a": ["é😀", None, 1.5, True]}))
    assert not current(database).cleaned


@given(
    st.recursive(
        st.text(st.characters(), max_size=5) | st.none() | st.integers(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    )
)
def test_cleaning_is_storable_and_idempotent(value: Any) -> None:
    cleaned = clean(value)
    text = json.dumps(cleaned, ensure_ascii=False)
    assert "\x00" not in text.encode().decode()
    assert clean(cleaned) == cleaned


# --- any order ----------------------------------------------------------------------------------

Fetch = tuple[int, FetchedRun]
SEEN = st.tuples(
    st.sampled_from("xyz"),
    st.sampled_from(["completed", "failed"]),
    st.sampled_from(["json", "csv"]),
)


def fetches(stamps: st.SearchStrategy[datetime | None]) -> st.SearchStrategy[list[Fetch]]:
    """Some fetches of one run, no two begun at the same moment, in some order, some repeated."""
    one = st.builds(
        lambda seen, stamp: run(
            output=seen[0], status=seen[1], output_type=seen[2], completed_at=stamp
        ),
        SEEN,
        stamps,
    )
    numbered = st.lists(one, min_size=1, max_size=6).map(lambda runs: list(enumerate(runs)))
    return numbered.flatmap(
        lambda all_of_them: st.lists(st.sampled_from(all_of_them), max_size=5).flatmap(
            lambda again: st.permutations([*all_of_them, *again])
        )
    )


def _newness(fetch: Fetch) -> tuple[datetime, bool, int]:
    moment, told = fetch
    return told.completed_at or at(-1), told.output_type != "csv", moment


def ends_with(connection: Connection, fetched: list[Fetch]) -> tuple[Any, ...]:
    for moment, told in fetched:
        keep(connection, told, fetched_at=at(moment))
    query = select(
        col(Result.output),
        col(Result.status),
        col(Result.completed_at),
        col(Result.fetched_at),
    ).where(col(Result.is_current))
    return tuple(connection.execute(query).one())


@pytest.mark.parametrize(
    "stamps",
    [st.none(), st.integers(0, 3).map(at), st.none() | st.integers(0, 3).map(at)],
    ids=["unstamped", "stamped", "some stamped"],
)
def test_any_order_ends_with_the_newest(
    scratch: Database, stamps: st.SearchStrategy[datetime | None]
) -> None:
    @settings(max_examples=40, deadline=None)
    @given(fetches(stamps))
    def check(fetched: list[Fetch]) -> None:
        newest = max(fetched, key=_newness)
        output, status, stamp, moment = undone(scratch, lambda c: ends_with(c, fetched))
        assert (output, status) == (newest[1].output, newest[1].status)
        assert (stamp, moment) == (newest[1].completed_at, at(newest[0]))

    check()
