"""Calls to a sender's API that it takes to bring in a batch, with its worst habits and without.

    python -m benchmarks.calls                      1,000 runs of each provider
    python -m benchmarks.calls --plain              only without bad habits
    python -m benchmarks.calls --runs 200 --only valyu,parallel

The senders are those of the sandbox, the receiver really serves, and every run is looked at in
the end: stored once, with the status that the sender gave it. Beside it stands what the official
SDK needs for the same batch once it has ended: its wait loop, and one call for each result. Each
poll of that loop before the end comes on top.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import httpx
import parallel
import valyu
from rich.console import Console
from rich.table import Table

from benchmarks import machine
from benchmarks.command import Command, note
from benchmarks.rows import Row
from receiver.sandbox import SandboxServer, Switches, serve_in_thread
from receiver.telemetry import logs
from tests.conformance import habits
from tests.conformance.cases import CASES, KEY, Case
from tests.conformance.sink import Sink, running

DEADLINE = 900.0
DURATION = (0.5, 6.0)  # seconds that a run takes where the sender has its worst habits


@dataclass
class Outcome:
    """Calls that a batch took. `creating` counts those of `batch create`, `calls` the others."""

    provider: str
    habits: str
    runs: int
    faults: int = 0
    seconds: float = 0.0
    creating: int = 0
    deliveries: int = 0
    failed: int = 0
    calls: dict[str, int] = field(default_factory=dict)
    sdk: int | None = None

    @property
    def total(self) -> int:
        """Calls in all."""
        return sum(self.calls.values())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for and print it."""
    command = Command("calls", __doc__, stores=False)
    command.size("--runs", 1_000, 30, "of each batch")
    command.parser.add_argument("--only", type=names_of_cases, default=list(CASES), metavar="NAMES")
    command.parser.add_argument("--plain", action="store_true", help="without bad habits alone")
    command.parser.add_argument("--log", type=Path, help="keep the receiver's log there")
    options = command.read(arguments)
    if options.runs < 10:
        command.parser.error("--runs must be at least 10")
    where = machine.describe()
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="resultsink-calls-") as folder:
        with (Path(folder) / "log").open("w") as log:
            logs.configure(json=True, level="warning", stream=log)
            for outcome in _outcomes(options, Path(folder)):
                outcomes.append(outcome)
                note(f"{outcome.provider} {outcome.habits}: {outcome.total}")
            logs.flush()
        if options.log:
            shutil.copyfile(Path(folder) / "log", options.log)
    details = {"outcomes": [asdict(outcome) for outcome in outcomes]}
    return command.tell(options, where, list(_rows(outcomes)), details, *_told(options, outcomes))


def _told(options: argparse.Namespace, outcomes: Sequence[Outcome]) -> list[Table]:
    """The table of all that was counted; it is wider than the one table."""
    if not options.json:
        Console(width=170).print(table(outcomes), highlight=False)
    return []


def _rows(outcomes: Sequence[Outcome]) -> Iterator[Row]:
    """Yield a row for each provider whose sender has no bad habits, with the design's bound."""
    for outcome in outcomes:
        if outcome.habits != "none" or outcome.sdk is None:
            continue
        name, most = _most(outcome)
        yield Row(
            f"calls to bring in a batch of {outcome.runs:,}: {outcome.provider}",
            f"the SDK's loop, {outcome.sdk:,} calls",
            f"{outcome.total:,}",
            f"{name} = {most:,}",
            round(outcome.total / outcome.sdk, 3),
            outcome.total <= most,
        )


def _most(outcome: Outcome) -> tuple[str, int]:
    """The calls that it may take, and how the design says it."""
    if outcome.provider == "valyu":
        return "pages + 3", -(-outcome.runs // 100) + 3
    return ("a stream + 3" if outcome.provider == "parallel" else "an export + 3"), 4


def _outcomes(options: argparse.Namespace, folder: Path) -> Iterator[Outcome]:
    for name in options.only:
        case = CASES[name]
        for habit in ["none"] if options.plain else habits.named(case):
            with _beside(folder, case) as (sandbox, sink):
                outcome = bring_in(case, sandbox, sink, options.runs, habit)
                if habit == "none":
                    outcome.sdk = by_sdk(case, sandbox, sink)
                yield outcome


@contextmanager
def _beside(folder: Path, case: Case) -> Iterator[tuple[SandboxServer, Sink]]:
    with (
        tempfile.TemporaryDirectory(dir=folder) as own,
        serve_in_thread(Switches()) as sandbox,
        running(Path(own), sandbox) as sink,
    ):
        yield sandbox, sink


def bring_in(
    case: Case, sandbox: SandboxServer, sink: Sink, runs: int, habit: str = "none"
) -> Outcome:
    """Create a batch, wait until it is complete, and look whether it is."""
    outcome = Outcome(case.name, habit, runs)
    if habit == "none":  # all of it ends at once, once all of it is there
        sandbox.change(duration=0, hold=True)
    else:
        sandbox.change(duration=DURATION, **habits.worst(case, runs, habit))
        habits.order_faults(sandbox, case)
    ordered = len(sandbox.state()["faults"])
    began = time.monotonic()
    batch_id = sink.create(case, runs)
    sandbox.change(hold=False)
    ledger = sink.complete(batch_id, seconds=DEADLINE)
    outcome.seconds, outcome.failed = round(time.monotonic() - began, 1), ledger.failed
    sink.quiet(seconds=DEADLINE)
    check(case, sandbox, sink, batch_id, runs)
    state = sandbox.state()
    outcome.faults = ordered - len(state["faults"])
    outcome.deliveries = len(state["deliveries"])
    outcome.creating = sum(n for path, n in state["calls"].items() if path.startswith("POST"))
    outcome.calls = {path: n for path, n in state["calls"].items() if path.startswith("GET")}
    return outcome


def check(case: Case, sandbox: SandboxServer, sink: Sink, batch_id: str, runs: int) -> None:
    """Every run once, in its first version, with its input and the status that it should have."""
    results = sink.results(batch_id)
    failing = sandbox.state()["switches"]["failing_tasks"]
    assert [result["run_id"] for result in results] == sink.runs(batch_id)
    assert len(results) == runs
    assert [result["version"] for result in results] == [1] * runs
    # in any order: runs that were listed before the answer to the create call was stored come as
    # the list has them; the sandbox lets those fail that were added first
    given = [json.dumps(task.input, sort_keys=True) for task in case.tasks(runs)]
    for status, wanted in (("failed", given[:failing]), ("completed", given[failing:])):
        ended = [result for result in results if result["status"] == status]
        found = [json.dumps(result["input"], sort_keys=True) for result in ended]
        assert sorted(found) == sorted(wanted)
        assert all(result["error" if status == "failed" else "output"] for result in ended)


def by_sdk(case: Case, sandbox: SandboxServer, sink: Sink) -> int:
    """The calls of the sender's own SDK (v0 has none: plain calls) for the newest batch."""
    (ledger,) = sink.store.batches.list_newest(source=case.name)
    run_ids = sink.runs(ledger.batch_id)
    before: int = sum(sandbox.state()["calls"].values())
    if case.name == "valyu":
        with valyu.Valyu(api_key=KEY, base_url=sandbox.api_url) as client:
            client.batch.wait_for_completion(ledger.batch_id)
            for run_id in run_ids:
                client.deepresearch.status(run_id)
    elif case.name == "parallel":
        with parallel.Parallel(api_key=KEY, base_url=sandbox.url) as api:
            while api.task_group.retrieve(ledger.batch_id).status.is_active:
                time.sleep(1)
            for run_id in run_ids:
                api.task_run.result(run_id)
    else:
        url = f"{sandbox.url}/v0/tasks/{ledger.task_id}"
        with httpx.Client(headers={"x-api-key": KEY}, trust_env=False) as plain:
            plain.get(f"{url}/batches/{ledger.batch_id}").raise_for_status()
            for run_id in run_ids:
                plain.get(f"{url}/runs/{run_id}").raise_for_status()
    after: int = sum(sandbox.state()["calls"].values())
    return after - before


def table(outcomes: Sequence[Outcome]) -> Table:
    """Lay the figures out as the one table."""
    laid = Table(title="Calls to bring in a batch (those of its creation left out)")
    for heading in ("provider", "habits"):
        laid.add_column(heading)
    for heading in ("runs", "failed", "deliveries", "faults"):
        laid.add_column(heading, justify="right")
    laid.add_column("calls by path", no_wrap=True)
    for heading in ("calls", "the SDK's", "seconds"):
        laid.add_column(heading, justify="right")
    for each in outcomes:
        paths = "\n".join(f"{count:>5} {path}" for path, count in each.calls.items())
        figures = (each.runs, each.failed, each.deliveries, each.faults)
        sdk = "" if each.sdk is None else f"{each.sdk:,}"
        laid.add_row(
            each.provider,
            each.habits,
            *(f"{figure:,}" for figure in figures),
            paths,
            f"{each.total:,}",
            sdk,
            f"{each.seconds:.0f}",
        )
    return laid


def names_of_cases(text: str) -> list[str]:
    """Return the providers that an option names, separated by commas."""
    names = text.split(",")
    unknown = [name for name in names if name not in CASES]
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown: {unknown}; there are {', '.join(CASES)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
