"""Acknowledged deliveries per second, as ratios between servers measured in one run.

    python -m benchmarks.intake                      all four, 3 alternating rounds of 5 s each
    python -m benchmarks.intake --store postgres
    python -m benchmarks.intake --only do-nothing,resultsink

A measurement starts a fresh process with a fresh database, warms it up, measures, and compares the
stored rows with the 200s. The order turns round with each round; a ratio is the median of the
ratios within the rounds, so that a machine that slows down does not tilt it.
"""

import argparse
import statistics
import sys
from collections.abc import Sequence
from functools import partial

from rich.table import Table

from benchmarks import machine
from benchmarks.command import Command, note
from benchmarks.compared import SERVERS
from benchmarks.databases import NAMES, NewDatabase, databases
from benchmarks.measuring import Figures, maximum
from benchmarks.rows import Row, at_least

BUSY = 0.9  # cores, from which on one thread counts as fully used
BASES = ("do-nothing", "bare", "by-hand")
OURS = "resultsink"
REACH = {"sqlite": (0.45, 0.60), "postgres": (0.40, 0.55)}
REACH_OF_BARE = 0.75
REACH_OF_BY_HAND = 4.0

Rounds = list[dict[str, Figures]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for and print it."""
    command = Command("intake", __doc__)
    command.size("--seconds", 5, 0.5, "of each measurement", type=float)
    command.size("--rounds", 3, 1, "of all servers")
    command.size("--connections", 64, 64, "at once")
    command.parser.add_argument("--only", type=_names, default=list(SERVERS), metavar="NAMES")
    options = command.read(arguments)
    where = machine.describe()
    with databases(options.store) as new_database:
        rounds = measure_rounds(options, new_database)
    details = {
        "store": options.store,
        "connections": options.connections,
        "rounds": [_plain(one) for one in rounds],
        "medians": _plain(medians(rounds)),
        "ratios": ratios(rounds),
        "notes": notes(rounds),
    }
    return command.tell(
        options, where, rows(rounds, options), details, table(rounds), *notes(rounds)
    )


def measure_rounds(options: argparse.Namespace, new_database: NewDatabase) -> Rounds:
    """Measure every server once a round, in turning order."""
    names = options.only
    rounds: Rounds = []
    for number in range(options.rounds):
        order = names if number % 2 == 0 else names[::-1]
        found = {}
        for name in order:
            found[name] = maximum(
                partial(SERVERS[name], new_database),
                connections=options.connections,
                seconds=options.seconds,
            )
            note(f"round {number + 1} {name}: {found[name].rate:,.0f}/s")
        rounds.append({name: found[name] for name in names})
    return rounds


def rows(rounds: Rounds, options: argparse.Namespace) -> list[Row]:
    """The lines of the one table."""
    if OURS not in rounds[0]:
        return []
    found = ratios(rounds)[OURS]
    least, aim = REACH[options.store]
    wanted_ratios = (
        ("do-nothing", "a do-nothing endpoint", least, aim),
        ("bare", "the bare yardstick", REACH_OF_BARE, None),
        ("by-hand", "the endpoint by hand", REACH_OF_BY_HAND, None),
    )
    what = f"deliveries acknowledged, synced, {options.connections} connections: "
    ours = f"{medians(rounds)[OURS].rate:,.0f}/s"
    return [
        at_least(
            what + NAMES[options.store],
            f"{against}, {medians(rounds)[base].rate:,.0f}/s",
            ours,
            ratio=found[base],
            least=wanted,
            aim=aimed,
        )
        for base, against, wanted, aimed in wanted_ratios
        if base in found
    ]


def medians(rounds: Rounds) -> dict[str, Figures]:
    """Give each server's medians, figure by figure."""
    return {
        name: Figures(
            *(
                statistics.median(getattr(one[name], figure) for one in rounds)
                for figure in Figures.__dataclass_fields__
            )
        )
        for name in rounds[0]
    }


def ratios(rounds: Rounds) -> dict[str, dict[str, float]]:
    """Give the median, over the rounds, of each server's rate to each base's in that round."""
    return {
        name: {
            base: round(statistics.median(one[name].rate / one[base].rate for one in rounds), 3)
            for base in BASES
            if base in rounds[0]
        }
        for name in rounds[0]
    }


def table(rounds: Rounds) -> Table:
    """Lay the figures of all servers out."""
    laid = Table(title=f"Deliveries acknowledged, medians of {len(rounds)} rounds")
    laid.add_column("server")
    for heading in ("acks/s", *(f"to {base}" for base in BASES), "p50 ms", "p99 ms"):
        laid.add_column(heading, justify="right")
    compared = ratios(rounds)
    for name, figures in medians(rounds).items():
        found = compared[name]
        columns = [f"{found[base]:.2f}" if base in found else "-" for base in BASES]
        laid.add_row(
            name, f"{figures.rate:,.0f}", *columns, f"{figures.p50:.1f}", f"{figures.p99:.1f}"
        )
    return laid


def notes(rounds: Rounds) -> list[str]:
    """Say for each server how busy both sides were, and warn where a figure is no maximum."""
    return [
        f"{name}: {figures.server_cores:.2f} cores busy, database {figures.database_cores:.2f},"
        f" generator {figures.generator_cores:.2f}" + _warning(name, rounds)
        for name, figures in medians(rounds).items()
    ]


def _warning(name: str, rounds: Rounds) -> str:
    """A server that could have done more was not measured, so the ratios to it are too high.

    Only do-nothing must be busy: the others may wait for the disk.
    """
    if any(one[name].generator_cores > BUSY for one in rounds):
        return " (THE GENERATOR WAS THE LIMIT)"
    idle = sum(one[name].server_cores < BUSY for one in rounds)
    if name == "do-nothing" and idle:
        return f" (NOT SATURATED in {idle} of {len(rounds)} rounds: others use the machine)"
    return ""


def _plain(found: dict[str, Figures]) -> dict[str, dict[str, float]]:
    return {
        name: {key: round(value, 3) for key, value in vars(figures).items()}
        for name, figures in found.items()
    }


def _names(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in SERVERS]
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown: {unknown}; there are {', '.join(SERVERS)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
