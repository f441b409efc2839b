"""resultsink prune: what would go, what went, and what an export and a ledger say then."""

import io
import json
from datetime import timedelta
from typing import Any

import pytest
from rich.console import Console

from receiver.cli import output, prune
from storage import FetchedBatch, Store, clock, now
from storage.batches import batches
from tests.receiver.cli.conftest import Run
from tests.receiver.conftest import locked
from tests.storage import build
from tests.storage.build import contents
from tests.storage.test_retention import record, store_results, work_off

pytestmark = pytest.mark.usefixtures("configured")

DAY = timedelta(days=1)


def aged(store: Store, days: int, *keys: str) -> None:
    then = now() - days * DAY
    record(store.database, *keys, now=then)
    work_off(store.database, now=then)


def counts(text: str) -> dict[str, int]:
    return {each["kind"]: each["rows"] for each in json.loads(text)["kinds"] if each["rows"]}


def test_dry_run_only_prints_what_would_go(run: Run, store: Store) -> None:
    aged(store, 40, "1", "2")
    before = contents(store.database)
    ended = run("prune", "--dry-run")
    assert (ended.code, ended.err) == (0, "4 rows would go.\n")
    table = [line.split() for line in ended.out.splitlines()]
    assert table == [
        ["kind", "kept", "for", "rows", "bytes"],
        ["attempts", "30", "days", "2", "8"],
        ["deliveries", "30", "days", "2", "32"],
        ["jobs", "90", "days", "0", "0"],
        ["events", "90", "days", "0", "0"],
        ["versions", "ever", "0", "0"],
        ["results", "ever", "0", "0"],
    ]
    assert contents(store.database) == before


def test_old_rows_are_pruned_and_counted(run: Run, store: Store) -> None:
    aged(store, 100, "1", "2")
    aged(store, 1, "young")
    printed = run("prune", "--dry-run", "--json").out
    ended = run("prune", "--json")
    assert json.loads(ended.out) == {**json.loads(printed), "dry_run": False}
    assert counts(printed) == {"attempts": 2, "deliveries": 2, "jobs": 2, "events": 2}
    assert [event["key"] for event in store.events.list_newest()] == ["young"]
    assert counts(run("prune", "--json").out) == {}


def test_options_stand_for_the_settings(
    run: Run, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    aged(store, 10, "1")
    monkeypatch.setenv("RESULTSINK_RETENTION__EVENTS", "5")
    monkeypatch.setenv("RESULTSINK_RETENTION__ATTEMPTS", "5")
    assert run("prune").code == 2  # deliveries are kept for 30
    printed = run("prune", "--dry-run", "--deliveries", "0.5", "--json").out
    assert counts(printed) == {"attempts": 1, "deliveries": 1, "jobs": 1, "events": 1}
    printed = run("prune", "--dry-run", "--events", "never", "--json").out
    assert counts(printed) == {"attempts": 1}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--events", "3"], "The setting retention.events is wrong: 3 days are too few"),
        (["--deliveries", "91"], "The setting retention.deliveries is wrong: kept for 91 days"),
        (["--results", "x"], "'x' is no number of days above 0, up to 36500, and not the word"),
        (["--results", "0"], "'0' is no number of days above 0"),
    ],
)
def test_wrong_options_prune_nothing(
    run: Run, store: Store, arguments: list[str], sentence: str
) -> None:
    aged(store, 100, "1")
    ended = run("prune", *arguments)
    assert ended.code == 2
    assert ended.sentence.startswith(sentence)
    assert len(store.events.list_newest()) == 1


def complete(store: Store) -> None:
    """A complete batch of two, stored a hundred days ago."""
    then = now() - 100 * DAY
    said = FetchedBatch("batch-1", "completed", True, total=2, ended=2)
    page = [build.run(each, batch_id="batch-1", output="text") for each in ("run-1", "run-2")]
    store_results(store.database, *page, now=then)

    def work(connection: Any) -> None:
        batches.save(connection, "valyu", said, announced=True, now=then)
        batches.settle(connection, "valyu", said, now=then)

    store.database.write(work)


def test_ledger_and_export_count_pruned_results(run: Run, store: Store) -> None:
    complete(store)
    assert "age" not in run("batch", "show", "batch-1").out
    assert counts(run("prune", "--results", "30", "--json").out) == {"results": 2}
    shown = run("batch", "show", "batch-1").out
    assert "complete" in shown
    assert "2 pruned at their age" in shown
    ledger = json.loads(run("batch", "show", "batch-1", "--json").out)
    assert (ledger["stored"], ledger["pruned"], ledger["missing"]) == (2, 2, 0)
    ended = run("export", "--batch", "batch-1", "--format", "jsonl")
    assert (ended.code, ended.out) == (0, "")
    assert ended.err == (
        "0 results written.\n2 more are left out: their content was pruned for its age.\n"
    )
    assert "content pruned" in run("task", "show", "run-1", "--offline").out
    task = json.loads(run("task", "show", "run-1", "--offline", "--json").out)
    assert task["pruned_at"] is not None
    assert task["result"] is None


@pytest.mark.usefixtures("impatient", "short_locks")
def test_held_database_ends_pruning(
    run: Run, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    aged(store, 100, "1")
    monkeypatch.setattr(prune, "TRIES", 1)
    with locked(store):
        ended = run("prune", "--json")
    assert ended.code == 1
    assert ended.sentence.startswith("The database cannot store now:")


@pytest.mark.usefixtures("impatient", "short_locks")
def test_pruning_waits_for_a_held_database(
    run: Run, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    aged(store, 100, "1")
    holding = locked(store)
    holding.__enter__()
    waits = iter([lambda _: holding.__exit__(None, None, None)])
    monkeypatch.setattr("receiver.cli.prune.time.sleep", lambda s: next(waits, lambda _: None)(s))
    assert counts(run("prune", "--json").out)["events"] == 1


def test_bar_only_on_a_terminal(run: Run, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    aged(store, 100, "1")
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=80)
    monkeypatch.setattr(output, "errors", lambda: terminal)
    run("prune", "--dry-run")
    assert "deliveries" in screen.getvalue()
    assert "100%" in screen.getvalue()


def test_clock_far_ahead_needs_confirmation(run: Run, store: Store) -> None:
    aged(store, 100, "old")
    store.database.write(lambda c: clock.note(c, now=now() - 2 * DAY))
    ended = run("prune")
    assert (ended.code, "If the clock is right, say --trust-clock" in ended.sentence) == (2, True)
    assert len(store.events.list_newest()) == 1
    assert run("prune", "--dry-run").code == 0
    assert run("prune", "--trust-clock").code == 0
    assert store.events.list_newest() == []
