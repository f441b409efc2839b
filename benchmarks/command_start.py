"""Processor time of short commands, against loading Typer and Rich alone.

    python -m benchmarks.command_start [--rounds 15]

User and system time of a process from its start to its end; the processes of a round follow each
other, and the ratios are those of the medians. Bytecode is cached, as it is once a command has run.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import storage
from benchmarks import machine
from benchmarks.command import Command
from benchmarks.rows import Row
from storage import FetchedBatch

BASE = ("-c", "import typer, rich.console, rich.table, rich.markdown")
BATCH = "batch_1"
MOST = {
    "--help": 1.6,
    "--version": 1.6,
    "batch nonsense": 1.6,
    "batch wait": 1.6,
    f"batch show {BATCH}": 4.5,
}
"""The commands, and how much more than the base each may take; two of them are wrong use."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for and print it."""
    command = Command("command_start", __doc__, stores=False)
    command.size("--rounds", 15, 2, "processes of each command")
    options = command.read(arguments)
    where = machine.describe()
    with tempfile.TemporaryDirectory() as folder:
        environment = _environment(Path(folder))
        runs = {"base": BASE} | {name: ("-m", "receiver", *name.split()) for name in MOST}
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        for number in range(options.rounds + 1):
            for name, run in runs.items():
                took = processor_seconds(run, environment)
                if number:  # the first round fills the caches
                    seconds[name].append(took)
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    base = medians.pop("base")
    rows = [_row(name, took, took / base) for name, took in medians.items()]
    return command.tell(options, where, rows, {"base": base, "seconds": seconds})


def processor_seconds(arguments: Sequence[str], environment: dict[str, str]) -> float:
    """Run Python with these arguments; returns the processor seconds of its process."""
    process = subprocess.Popen(  # noqa: S603  (our own command)
        [sys.executable, *arguments],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode in (0, 2), f"{arguments} ended with {process.returncode}"
    return usage.ru_utime + usage.ru_stime


def _environment(folder: Path) -> dict[str, str]:
    """Make a database with one batch, and the environment in which commands find it."""
    url = f"sqlite:///{folder / 'resultsink.db'}"
    with closing(storage.open(url)) as store:
        store.batches.note("valyu", FetchedBatch(BATCH, "processing", is_terminal=False))
    ours = {"RESULTSINK_DATABASE_URL": url, "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
    theirs = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("RESULTSINK_") and name != "PYTHONDONTWRITEBYTECODE"
    }
    return {**theirs, **ours}


def _row(name: str, seconds: float, ratio: float) -> Row:
    most = MOST[name]
    return Row(
        f"processor time of `resultsink {name}`",
        "loading Typer and Rich",
        f"{seconds * 1000:.0f} ms",
        f"<= {most:g}",
        round(ratio, 3),
        ratio <= most,
    )


if __name__ == "__main__":
    sys.exit(main())
