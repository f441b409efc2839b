"""The ledger: a batch is complete by its runs and the sender's counts, not by its status."""

from typing import Any

import pytest
from sqlalchemy import update

from storage import FetchedBatch, Ledger, NotFound, Store, SubmittedRun
from storage.batches import batches
from storage.models import Batch, Event, Job, Run
from storage.store.batches import RUNS_AT_ONCE
from tests.storage.build import at, claim, claimed, deliver, delivery, keep, rows, run, tried


@pytest.fixture
def endpoint(store: Store) -> str:
    """The endpoint of the batch `b`."""
    return store.endpoints.add("valyu", "batch", resource="b")


def shown(
    status: str = "completed",
    *,
    total: int | None = None,
    ended: int | None = None,
    is_terminal: bool = True,
    **other: Any,
) -> FetchedBatch:
    return FetchedBatch("b", status, is_terminal=is_terminal, total=total, ended=ended, **other)


def results(store: Store, *names: str, **how: Any) -> None:
    page = [run(name, batch_id="b", **how) for name in names]
    store.database.write(lambda c: keep(c, *page))


def look(store: Store, batch: FetchedBatch) -> Ledger:
    """Do what a job does that asks for the status: keep it, then settle."""
    lease = claimed(store.database, subject_kind="batch", subject="b")
    store.batches.save(lease, batch)
    ledger = store.batches.settle(lease, batch)
    store.jobs.finish(lease, tried())
    return ledger


# --- complete -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("endpoint")
def test_complete_when_ids_and_counts_agree(store: Store) -> None:
    results(store, "r1", "r2")
    ledger = look(store, shown(total=2, ended=2))
    assert (ledger.state, ledger.sender_status) == ("complete", "completed")
    assert ledger.completed_at is not None


@pytest.mark.usefixtures("endpoint")
@pytest.mark.parametrize(
    ("why", "batch"),
    [
        ("the sender counts a run that we do not know", shown(total=3, ended=3)),
        ("the sender counts fewer than we know", shown(total=1, ended=1)),
        ("runs go on after a cancel", shown("cancelled", total=2, ended=1)),
        ("the sender has not ended it", shown("running", total=2, ended=2, is_terminal=False)),
        ("only the number of ends is told, and is another", shown(ended=1)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_open_while_anything_disagrees(store: Store, why: str, batch: FetchedBatch) -> None:
    results(store, "r1", "r2")
    ledger = look(store, batch)
    assert (ledger.state, ledger.completed_at) == ("open", None), why


@pytest.mark.usefixtures("endpoint")
@pytest.mark.parametrize("how", [{"status": "running"}, {"has_output": False}])
def test_open_while_a_result_is_missing(store: Store, how: dict[str, Any]) -> None:
    results(store, "r1")
    results(store, "r2", **how)
    assert look(store, shown(total=2, ended=2)).state == "open"
    assert look(store, shown()).state == "open"


@pytest.mark.usefixtures("endpoint")
def test_sender_without_counts_never_completes(store: Store) -> None:
    results(store, "r1")
    assert look(store, shown()).state == "open"
    assert look(store, shown(ended=1)).state == "open"
    assert look(store, shown(total=1)).state == "complete"


@pytest.mark.usefixtures("endpoint")
def test_batch_cancelled_empty_is_complete(store: Store) -> None:
    assert look(store, shown("cancelled", total=0, ended=0)).state == "complete"


@pytest.mark.usefixtures("endpoint")
def test_failed_and_cancelled_runs_complete(store: Store) -> None:
    results(store, "r1", status="failed", error="x")
    results(store, "r2", status="cancelled", has_output=False)
    ledger = look(store, shown(total=2, ended=2))
    assert (ledger.state, ledger.failed) == ("complete", 2)


@pytest.mark.usefixtures("endpoint")
def test_runs_of_others_do_not_count(store: Store) -> None:
    results(store, "r1")
    store.database.write(lambda c: keep(c, run("r2", batch_id="other"), run("r3")))
    assert look(store, shown(total=1, ended=1)).stored == 1


def test_completion_keeps_its_first_moment(store: Store, endpoint: str) -> None:
    results(store, "r1")
    first = look(store, shown(total=1, ended=1)).completed_at
    assert look(store, shown(total=1, ended=1)).completed_at == first


# --- open again ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("endpoint")
def test_larger_count_opens_batch_again(store: Store) -> None:
    results(store, "r1")
    look(store, shown(total=1, ended=1))
    ledger = store.batches.note("valyu", shown(total=2, ended=1))
    assert (ledger.state, ledger.completed_at, ledger.expected) == ("open", None, 2)


@pytest.mark.usefixtures("endpoint")
def test_our_addition_opens_batch_again(store: Store) -> None:
    results(store, "r1")
    look(store, shown(total=1, ended=1))
    store.batches.add_runs("valyu", "b", [SubmittedRun("r2", None, None)])
    ledger = store.batches.ledger("b")
    assert (ledger.state, ledger.completed_at, ledger.expected) == ("open", None, 2)


def test_addition_with_results_stays_complete(store: Store, endpoint: str) -> None:
    results(store, "r1", "r2")
    ended = look(store, shown(total=2, ended=2)).completed_at
    store.batches.add_runs(
        "valyu", "b", [SubmittedRun(r, f"t-{r}", {"row": r}) for r in ("r1", "r2")]
    )
    ledger = store.batches.ledger("b")
    assert (ledger.state, ledger.completed_at, ledger.expected) == ("complete", ended, 2)
    assert [row.input for row in rows(store.database, Run)] == [{"row": "r1"}, {"row": "r2"}]
    assert live_checks(store) == []


@pytest.mark.usefixtures("endpoint")
def test_added_run_without_result_reopens(store: Store) -> None:
    results(store, "r1")
    look(store, shown(total=1, ended=1))
    store.batches.add_runs(
        "valyu", "b", [SubmittedRun("r1", None, None), SubmittedRun("r2", None, None)]
    )
    assert (store.batches.ledger("b").state, store.batches.ledger("b").expected) == ("open", 2)


def test_runs_without_ids_are_expected(store: Store, endpoint: str) -> None:
    store.batches.add_runs("valyu", "b", [SubmittedRun("r1", None, None)])
    results(store, "r1")
    look(store, shown(total=1, ended=1))
    store.batches.add_runs("valyu", "b", [], submitted=2)
    assert (store.batches.ledger("b").state, store.batches.ledger("b").expected) == ("open", 2)
    store.batches.add_runs("valyu", "b", [SubmittedRun("r4", None, None)], submitted=4)
    assert store.batches.ledger("b").expected == 4
    assert live_checks(store) == [endpoint]


@pytest.mark.usefixtures("endpoint")
def test_unlisted_runs_count_once_when_found(store: Store) -> None:
    store.batches.add_runs("valyu", "b", [SubmittedRun("r1", None, None)], submitted=3)
    assert store.batches.ledger("b").expected == 3
    results(store, "r1", "r2", "r3")
    store.batches.add_runs("valyu", "b", [SubmittedRun("r4", None, None)])
    assert store.batches.ledger("b").expected == 4


@pytest.mark.usefixtures("endpoint")
def test_repeated_addition_counts_unlisted_runs_once(store: Store) -> None:
    for _ in range(3):
        store.batches.add_runs("valyu", "b", [SubmittedRun("r1", None, None)], submitted=3)
    assert store.batches.ledger("b").expected == 3


def live_checks(store: Store) -> list[str]:
    found = (row for row in rows(store.database, Job) if row.kind == "check")
    return [row.endpoint_id for row in found if row.status == "pending"]


def test_completion_ends_the_check(store: Store, endpoint: str) -> None:
    assert live_checks(store) == [endpoint]
    look(store, shown("running", total=1, ended=0, is_terminal=False))
    assert live_checks(store) == [endpoint]
    look(store, shown(total=0, ended=0))
    assert live_checks(store) == []


def test_completion_leaves_the_checks_of_others(store: Store, endpoint: str) -> None:
    other = store.endpoints.add("valyu", "batch", resource="other")
    look(store, shown(total=0, ended=0))
    assert live_checks(store) == [other]


def test_addition_after_the_end_is_watched(store: Store, endpoint: str) -> None:
    look(store, shown(total=0, ended=0))
    store.batches.add_runs("valyu", "b", [SubmittedRun("r1", None, None)])
    assert live_checks(store) == [endpoint]


def test_growth_at_the_sender_is_watched(store: Store, endpoint: str) -> None:
    look(store, shown(total=0, ended=0))
    store.batches.note("valyu", shown(total=2, ended=1))
    assert live_checks(store) == [endpoint]


# --- the ledger ---------------------------------------------------------------------------------


def test_ledger_counts_every_kind_of_run(store: Store, endpoint: str) -> None:
    submitted = [SubmittedRun(f"r{n}", None, None) for n in range(4)]
    store.batches.add_runs("valyu", "b", submitted)
    results(store, "r0")
    results(store, "r1", status="failed", error="x")
    ledger = store.batches.note("valyu", shown("running", total=4, ended=3, is_terminal=False))
    assert (ledger.expected, ledger.announced, ledger.stored, ledger.failed) == (4, 3, 2, 1)
    assert (ledger.endpoint_id, ledger.source, ledger.batch_id) == (endpoint, "valyu", "b")
    assert ledger.as_dict()["announced"] == 3


@pytest.mark.usefixtures("endpoint")
@pytest.mark.parametrize(("total", "expected"), [(None, 2), (1, 2), (7, 7)])
def test_expected_is_larger_of_both_counts(store: Store, total: int | None, expected: int) -> None:
    store.batches.add_runs(
        "valyu", "b", [SubmittedRun("r1", None, None), SubmittedRun("r2", None, None)]
    )
    assert store.batches.note("valyu", shown(total=total)).expected == expected


@pytest.mark.usefixtures("endpoint")
def test_a_stored_result_counts_as_announced(store: Store) -> None:
    results(store, "r1")
    assert store.batches.note("valyu", shown(total=2, ended=0)).announced == 1


@pytest.mark.usefixtures("endpoint")
def test_stored_run_that_goes_on_again_counts_as_announced(store: Store) -> None:
    results(store, "r1")
    store.database.write(lambda c: c.execute(update(Run).values(status="running")))
    ledger = store.batches.ledger("b")
    assert (ledger.announced, ledger.stored, ledger.expected) == (1, 1, 1)


@pytest.mark.usefixtures("endpoint")
def test_only_current_versions_count(store: Store) -> None:
    results(store, "r1", status="failed", error="x")
    again = run("r1", batch_id="b", output="y")
    store.database.write(lambda c: keep(c, again, fetched_at=at(1)))
    assert (store.batches.ledger("b").stored, store.batches.ledger("b").failed) == (1, 0)


@pytest.mark.usefixtures("endpoint")
def test_adding_same_runs_again_counts_once(store: Store) -> None:
    for _ in range(2):
        store.batches.add_runs("valyu", "b", [SubmittedRun("r1", "t", {"query": "q"})])
    assert store.batches.ledger("b").expected == 1


@pytest.mark.usefixtures("endpoint")
def test_run_known_before_joins_its_batch(store: Store) -> None:
    store.database.write(lambda c: keep(c, run("r1", "running")))
    store.batches.add_runs("valyu", "b", [SubmittedRun("r1", "t", {"query": "q"})])
    (known,) = rows(store.database, Run)
    assert (known.batch_id, known.task_id, known.input) == ("b", "t", {"query": "q"})
    assert known.status == "running"


@pytest.mark.usefixtures("endpoint")
def test_added_runs_may_hold_any_text(store: Store) -> None:
    store.batches.add_runs("valyu", "b", [SubmittedRun("r1", "t\ud800", {"query": "\x00"})])
    (known,) = rows(store.database, Run)
    assert (known.task_id, known.input) == ("t\ufffd", {"query": "\ufffd"})


# --- what a status call says --------------------------------------------------------------------


def test_status_call_registers_a_batch(store: Store) -> None:
    store.batches.note("valyu", shown(total=5, name="night", runner="fast"))
    ledger = store.batches.ledger("b")
    assert (ledger.name, ledger.runner, ledger.expected) == ("night", "fast", 5)


def test_sender_counts_may_have_any_name(store: Store) -> None:
    store.batches.note("valyu", shown(total=2, counts={"\x00": 1, "\ud800 b": 1}))
    (kept,) = rows(store.database, Batch)
    assert kept.counts == {"\ufffd": 1, "\ufffd b": 1, "total": 2, "ended": None}


def test_registering_again_only_fills_in(store: Store) -> None:
    endpoint = store.endpoints.add("valyu", "batch")
    store.batches.register("valyu", "b", endpoint_id=endpoint, secret="s", name="night")  # noqa: S106
    store.batches.note("valyu", shown(runner="fast"))
    ledger = store.batches.ledger("b")
    assert (ledger.name, ledger.runner, ledger.endpoint_id) == ("night", "fast", endpoint)


def test_registration_binds_endpoint_and_secret_together(store: Store) -> None:
    endpoint = store.endpoints.add("valyu", "batch")
    store.batches.register("valyu", "b", endpoint_id=endpoint, secret="s")  # noqa: S106
    view = store.endpoints.find_by_resource("valyu", "b")
    assert view is not None
    assert (view.id, view.secrets[0].text) == (endpoint, "s")


def test_known_facts_are_never_overwritten(store: Store) -> None:
    first, second = store.endpoints.add("valyu", "batch"), store.endpoints.add("valyu", "batch")
    store.batches.check("valyu", "b")
    mine: dict[str, Any] = {"endpoint_id": first, "name": "mine", "runner": "r", "task_id": "t"}
    store.batches.register("valyu", "b", **mine, defaults={"arguments": ["q"]})
    store.batches.check("valyu", "b", task_id="another's")
    other = {"endpoint_id": second, **dict.fromkeys(("name", "runner", "task_id"), "another's")}
    store.database.write(
        lambda c: batches.register(
            c, source="valyu", batch_id="b", **other, defaults={"arguments": []}, now=at(1)
        )
    )
    kept = store.batches.ledger("b").as_dict()
    assert {name: kept[name] for name in mine} == mine
    assert store.batches.defaults_of("valyu", "b") == {"arguments": ["q"]}


def test_early_callback_binding_survives_an_addition(
    store: Store,
) -> None:
    store.batches.register("valyu", "b", endpoint_id=None, task_id="t")
    early, other = (store.endpoints.add("valyu", "run", task_id="t") for _ in range(2))
    store.endpoints.bind(early, "r2")
    added = [SubmittedRun("r1", "t", {"q": 1}, early), SubmittedRun("r2", "t", {"q": 2}, other)]
    store.batches.add_runs("valyu", "b", added)
    assert (store.batches.ledger("b").expected, len(rows(store.database, Run))) == (2, 2)
    view = store.endpoints.find(early)
    assert view is not None
    assert view.resource == "r2"


def test_foreign_endpoint_registers_no_batch(store: Store, endpoint: str) -> None:
    with pytest.raises(NotFound):
        store.batches.register("valyu", "other", endpoint_id=endpoint, secret="s")  # noqa: S106
    assert [row.batch_id for row in rows(store.database, Batch)] == ["b"]


def test_batch_name_may_be_any_text(store: Store) -> None:
    assert store.batches.note("valyu", shown(name="n\ud800\x00")).name == "n\ufffd\ufffd"


@pytest.mark.usefixtures("endpoint")
@pytest.mark.parametrize("by_event", [True, False])
def test_event_announces_batch_but_check_does_not(store: Store, by_event: bool) -> None:
    job: dict[str, Any] = {"subject_kind": "batch", "subject": "b"}
    if by_event:
        deliver(store, delivery(disposition="ignored"))
        job["event_id"] = rows(store.database, Event)[0].id
    store.batches.save(claimed(store.database, **job), shown())
    assert (rows(store.database, Batch)[0].announced_at is not None) is by_event


def test_ended_job_watches_no_other_batch(store: Store) -> None:
    """Neither of its source nor of another; all have no endpoint."""
    store.batches.register("other", "given up", endpoint_id=None)
    store.batches.register("valyu", "ours", endpoint_id=None)
    for lease in claim(store.database, now=at(10**9), source="other"):
        store.jobs.bury(lease, tried())
    for lease in claim(store.database, now=at(10**9)):
        store.jobs.finish(lease, tried())
    live = [(row.source, row.subject) for row in rows(store.database, Job) if not row.ended_at]
    assert live == [("valyu", "ours")]


def test_rerun_is_unstored_until_its_result(store: Store) -> None:
    store.batches.register("valyu", "b", endpoint_id=None)
    for told in (run(status="failed", batch_id="b"), run(has_output=False, batch_id="b")):
        store.runs.note("valyu", told, fetched_at=store.now())
    assert (store.batches.ledger("b").expected, store.batches.ledger("b").stored) == (1, 0)
    assert [row["run_id"] for row in store.batches.story("b").missing_runs] == ["run-1"]


def test_many_runs_take_several_transactions(store: Store) -> None:
    store.batches.register("valyu", "b", endpoint_id=None)
    many = [SubmittedRun(f"r{number}", None, {"n": number}) for number in range(RUNS_AT_ONCE + 1)]
    store.batches.add_runs("valyu", "b", many, submitted=RUNS_AT_ONCE + 3)
    assert store.batches.ledger("b").expected == RUNS_AT_ONCE + 3
    assert len(rows(store.database, Run)) == RUNS_AT_ONCE + 1


# --- finding ------------------------------------------------------------------------------------


def test_unknown_batch_is_not_found(store: Store) -> None:
    with pytest.raises(NotFound, match="no batch b"):
        store.batches.ledger("b")
    with pytest.raises(NotFound):
        store.batches.add_runs("valyu", "b", [SubmittedRun("r1", None, None)])
    assert rows(store.database, Run) == []


def test_batch_of_two_sources_needs_source(store: Store) -> None:
    for source in ("valyu", "parallel"):
        store.batches.note(source, shown())
    with pytest.raises(NotFound, match="--source \\(parallel, valyu\\)"):
        store.batches.ledger("b")
    assert store.batches.ledger("b", source="valyu").source == "valyu"


def test_batches_listed_newest_first_by_source(store: Store) -> None:
    for source in ("valyu", "parallel"):
        store.batches.note(source, shown())
    assert [ledger.source for ledger in store.batches.list_newest()] == ["parallel", "valyu"]
    assert [ledger.source for ledger in store.batches.list_newest(source="valyu")] == ["valyu"]
    assert len(store.batches.list_newest(limit=1)) == 1


@pytest.mark.usefixtures("endpoint")
def test_missing_runs_show_sender_s_last_status(store: Store) -> None:
    results(store, "r1")
    results(store, "r2", status="running", sender_status="in_progress", task_id="t2")
    assert store.batches.story("b").missing_runs == [
        {"run_id": "r2", "task_id": "t2", "status": "running", "sender_status": "in_progress"}
    ]
