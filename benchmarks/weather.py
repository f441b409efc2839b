"""Batches whose webhooks are lost, doubled, late or refused, while somebody waits for them.

    python -m benchmarks.weather                    batches of 1,000 of each provider
    python -m benchmarks.weather --runs 200 --only valyu

`batch wait` waits for each batch as a user does, from its creation on, beside the official SDK's
own wait loop on the same batch (v0 has no SDK: plain calls as its documentation shows). All must
end complete and exact. Where one webhook announces a whole batch (Valyu), each weather has a batch
of its own; elsewhere, every run has a webhook, and a share of them each weather.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import machine
from benchmarks.calls import check, names_of_cases
from benchmarks.command import Command, note
from benchmarks.rows import Row
from benchmarks.sdk_loops import SdkLoop
from receiver.sandbox import SandboxServer, Switches, serve_in_thread
from receiver.telemetry import logs
from tests.conformance.cases import CASES, Case
from tests.conformance.sink import Sink, running
from tests.processes import COMMAND

DURATION = (1.0, 15.0)
"""Seconds that a run takes."""
DEADLINE = 900.0

ROUGH: dict[str, Any] = {"dropped": 0.3, "doubled": 0.3, "late": 0.1}
REFUSED: dict[str, Any] = {"missigned": True}
OF_A_BATCH: dict[str, dict[str, Any]] = {
    "lost": {"dropped": 1.0},
    "doubled": {"doubled": 1.0},
    "late": {"late": 1.0},
    "refused": REFUSED,
}
OF_ITS_RUNS: dict[str, dict[str, Any]] = {
    "30 % lost, 30 % doubled, 10 % late": ROUGH,
    "refused": REFUSED,
}


@dataclass
class Outcome:
    """One batch: what came of its webhooks, how its results came, and the calls that took.

    `polls` are those of the SDK's wait loop, after which it makes a call for each result.
    """

    provider: str
    weather: str
    runs: int
    sent: int = 0
    refused: int = 0
    found_by: dict[str, int] = field(default_factory=dict)
    calls: int = 0
    polls: int = 0
    sdk: int = 0
    after_end: float = 0.0
    said: list[str] = field(default_factory=list)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for and print it."""
    command = Command("weather", __doc__, stores=False)
    command.size("--runs", 1_000, 60, "of each batch")
    command.parser.add_argument("--only", type=names_of_cases, default=list(CASES), metavar="NAMES")
    options = command.read(arguments)
    where = machine.describe()
    outcomes = []
    with (
        tempfile.TemporaryDirectory(prefix="resultsink-weather-") as folder,
        (Path(folder) / "log").open("w") as log,
    ):
        logs.configure(json=True, level="warning", stream=log)
        for outcome in _outcomes(options, Path(folder)):
            outcomes.append(outcome)
            note(f"{outcome.provider} {outcome.weather}: {outcome.found_by}, {outcome.calls}")
        logs.flush()
    if not options.json:
        Console(width=150).print(table(outcomes), highlight=False)
    details = {"outcomes": [asdict(outcome) for outcome in outcomes]}
    return command.tell(options, where, list(map(_row, outcomes)), details)


def _row(outcome: Outcome) -> Row:
    return Row(
        f"calls while waiting for {outcome.runs:,} runs: {outcome.provider}, {outcome.weather}",
        f"the SDK's loop, {outcome.polls:,} polls + {outcome.sdk - outcome.polls:,} results",
        f"{outcome.calls:,}; {', '.join(f'{n:,} by {way}' for way, n in outcome.found_by.items())}",
        ratio=round(outcome.calls / outcome.sdk, 3),
    )


def _outcomes(options: argparse.Namespace, folder: Path) -> Iterator[Outcome]:
    for name in options.only:
        case = CASES[name]
        weathers = OF_A_BATCH if case.announced == "batch" else OF_ITS_RUNS
        for weather, switches in weathers.items():
            yield bring_in(case, options.runs, weather, switches, folder=folder)


def bring_in(
    case: Case, runs: int, weather: str, switches: dict[str, Any], *, folder: Path
) -> Outcome:
    """Create a batch, wait for it beside the SDK's loop, and look whether it is complete."""
    outcome = Outcome(case.name, weather, runs)
    with _beside(folder) as (own, sandbox, sink):
        sandbox.change(duration=DURATION, hold=True, **switches)
        batch_id = sink.create(case, runs)
        task_id = sink.store.batches.ledger(batch_id).task_id
        before = _gets(sandbox)
        sdk = SdkLoop(case, sandbox, batch_id, task_id, runs=sink.runs(batch_id))
        sandbox.change(hold=False)
        beside = threading.Thread(target=sdk.run)
        beside.start()
        outcome.said = _waited(own, batch_id)
        waited = time.monotonic()
        beside.join()
        outcome.after_end = round(max(0.0, waited - sdk.saw_end), 1)
        outcome.polls, outcome.sdk = sdk.polls, sdk.calls
        outcome.calls = _gets(sandbox) - before - sdk.calls
        check(case, sandbox, sink, batch_id, runs)
        outcome.found_by = sink.store.batches.story(batch_id).arrivals.found_by
        statuses = [each["status"] for each in sandbox.state()["deliveries"]]
        outcome.sent, outcome.refused = len(statuses), statuses.count(401)
    return outcome


@contextmanager
def _beside(folder: Path) -> Iterator[tuple[Path, SandboxServer, Sink]]:
    with (
        tempfile.TemporaryDirectory(dir=folder) as own,
        serve_in_thread(Switches()) as sandbox,
        running(Path(own), sandbox) as sink,
    ):
        yield Path(own), sandbox, sink


def _waited(folder: Path, batch_id: str) -> list[str]:
    """Wait for a batch with the command; what it said on standard error."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RESULTSINK_")}
    done = subprocess.run(  # noqa: S603  our own program
        [*COMMAND, "batch", "wait", batch_id, "--timeout", str(DEADLINE), "--json"],
        cwd=folder,
        env={**kept, "RESULTSINK_CONFIG": str(folder / "resultsink.toml")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["state"] == "complete"
    return done.stderr.splitlines()


def _gets(sandbox: SandboxServer) -> int:
    calls = sandbox.state()["calls"].items()
    return sum(count for path, count in calls if path.startswith("GET"))


def table(outcomes: Sequence[Outcome]) -> Table:
    """Lay the figures out as the one table."""
    laid = Table(title="Batches in bad weather, while somebody waits (calls of creation left out)")
    for heading in ("provider", "its webhooks"):
        laid.add_column(heading)
    for heading in ("runs", "sent", "refused"):
        laid.add_column(heading, justify="right")
    laid.add_column("results came by")
    for heading in ("calls", "SDK: polls", "+ results", "s after it saw the end"):
        laid.add_column(heading, justify="right")
    for each in outcomes:
        ways = ", ".join(f"{way} {count:,}" for way, count in each.found_by.items())
        figures = (each.runs, each.sent, each.refused)
        after = (each.calls, each.polls, each.sdk - each.polls)
        laid.add_row(
            each.provider,
            each.weather,
            *(f"{figure:,}" for figure in figures),
            ways,
            *(f"{figure:,}" for figure in after),
            f"{each.after_end:.0f}",
        )
    return laid


if __name__ == "__main__":
    sys.exit(main())
