"""Run the benchmarks one after the other and print all rows as one table.

    python -m benchmarks                         all of them: about 25 minutes on two cores
    python -m benchmarks --quick                 only to see that they work: figures mean nothing
    python -m benchmarks --full                  more rounds, 10 million events, each of the 100,000
                                                 jobs, the senders' worst habits: hours
    python -m benchmarks --json FILE intake      only these; all that was measured goes into FILE

A process each, because what one leaves in memory must not slow down the next. What fails costs its
own rows only; the others are still printed, and the exit code is 1.
"""

import argparse
import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.command import note
from benchmarks.processes import ROOT
from benchmarks.rows import Row, show, table

BOTH = ("--store=sqlite",), ("--store=postgres",)


@dataclass(frozen=True)
class Part:
    """One run of one benchmark. `shorter` is left out with --full, `fuller` otherwise."""

    name: str
    arguments: tuple[str, ...] = ()
    shorter: tuple[str, ...] = ()
    fuller: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Return the part's name as a failure shows it."""
        return " ".join((self.name, *self.arguments))


@dataclass
class Done:
    """Outcome of one part."""

    part: Part
    seconds: float
    rows: list[Row]
    measured: dict[str, Any] = field(default_factory=dict)
    error: str | None = None


PARTS = (
    *(Part("intake", store, ("--seconds=3",)) for store in BOTH),
    Part("intakes", shorter=("--seconds=3", "--rounds=2")),
    *(Part("steady", store, ("--seconds=3", "--rounds=2")) for store in BOTH),
    *(Part("filled", store, ("--seconds=3", "--events=500000")) for store in BOTH),
    Part("calls", shorter=("--plain",)),
    Part("weather"),
    *(Part("results", store, ("--rounds=2",)) for store in BOTH),
    Part("results", ("--store=postgres", "--workers"), ("--rounds=2",)),
    *(Part("limit", store) for store in BOTH),
    Part("export", shorter=("--rounds=1",)),
    *(Part("killed", store, fuller=("--to-the-end",)) for store in BOTH),
    *(Part("starting", store) for store in BOTH),
    *(Part("loaded", store) for store in BOTH),
    Part("command_start"),
)
NAMES = tuple(dict.fromkeys(part.name for part in PARTS))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the named benchmarks, or all; give 1 if any of them failed."""
    options = _options(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    where = machine.describe()
    done = [run(part, options) for part in PARTS if part.name in options.names]
    failed = [each for each in done if each.error is not None]
    if options.json:
        options.json.write_text(json.dumps(_as_dict(where, options, done), indent=1) + "\n")
    seconds = sum(each.seconds for each in done)
    show(
        machine.line(where),
        table([row for each in done for row in each.rows], "resultsink, measured in one run"),
        f"{seconds / 60:.0f} minutes" + (", QUICK: THE FIGURES MEAN NOTHING" * options.quick),
        *(f"{each.part.title}: {each.error}" for each in failed),
    )
    return 1 if failed else 0


def run(part: Part, options: argparse.Namespace) -> Done:
    """Run a part in a process of its own."""
    note(f"== {part.title}")
    given = ("--quick",) if options.quick else part.fuller if options.full else part.shorter
    command = [sys.executable, "-m", f"benchmarks.{part.name}", *part.arguments, *given, "--json"]
    began = time.monotonic()
    with subprocess.Popen(  # noqa: S603  (our own command)
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            out, said = process.communicate()
        except BaseException:
            process.terminate()  # it unwinds: its processes end, its files go
            raise
    seconds = round(time.monotonic() - began, 1)
    note(f"   {seconds:.0f} s, ended with {process.returncode}")
    if process.returncode:
        return _failed(part, seconds, said.strip() or f"ended with {process.returncode}")
    try:
        printed = json.loads(out)
        return Done(part, seconds, [Row.read(row) for row in printed["rows"]], printed["measured"])
    except (ValueError, KeyError, TypeError) as error:
        return _failed(part, seconds, f"what it printed cannot be read: {error!r}")


def _failed(part: Part, seconds: float, error: str) -> Done:
    note(f"   {error.splitlines()[-1]}")
    return Done(part, seconds, [Row.failed(part.title)], error=error[-3000:])


def _as_dict(
    where: dict[str, str | int | float], options: argparse.Namespace, done: Sequence[Done]
) -> dict[str, Any]:
    return {
        "machine": where,
        "quick": options.quick,
        "full": options.full,
        "rows": [row.as_dict() for each in done for row in each.rows],
        "parts": [
            {
                "name": each.part.title,
                "seconds": each.seconds,
                "error": each.error,
                "measured": each.measured,
            }
            for each in done
        ],
    }


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(NAMES))
    parser.add_argument("--quick", action="store_true", help="short runs, to see that all work")
    parser.add_argument("--full", action="store_true", help="the sizes of the design, all of them")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all that was measured")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in NAMES]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(NAMES)}")
    if options.quick and options.full:
        parser.error("--quick and --full exclude each other")
    options.names = options.names or NAMES
    return options


if __name__ == "__main__":
    sys.exit(main())
