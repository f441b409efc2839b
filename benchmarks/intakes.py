"""Deliveries acknowledged by several intake processes on one Postgres, against one of them.

    python -m benchmarks.intakes [--processes 2] [--connections 128]

Each process is a `resultsink serve --role intake`; the connections go to each in equal parts. All
of them, Postgres and the generator share the cores of one machine: on few cores this shows where
the machine ends, on many where Postgres does.
"""

import statistics
import sys
from collections.abc import Sequence
from functools import partial

from benchmarks import machine
from benchmarks.command import Command, note
from benchmarks.compared import intakes
from benchmarks.databases import databases
from benchmarks.measuring import Figures, maximum
from benchmarks.rows import Row


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for and print it."""
    command = Command("intakes", __doc__, stores=False)
    command.size("--seconds", 5, 0.5, "of each measurement", type=float)
    command.size("--rounds", 3, 1, "of one and of several")
    command.size("--processes", 2, 2, "that take deliveries in")
    command.size("--connections", 128, 64, "at once, over all processes")
    options = command.read(arguments)
    where = machine.describe()
    rounds: list[dict[int, Figures]] = []
    with databases("postgres") as new_database:
        for number in range(options.rounds):
            order = (1, options.processes) if number % 2 == 0 else (options.processes, 1)
            rounds.append({})
            for count in order:
                rounds[-1][count] = maximum(
                    partial(intakes, new_database, count),
                    connections=options.connections,
                    seconds=options.seconds,
                )
                note(f"round {number + 1}, {count}: {rounds[-1][count]}")
    one, several = (_medians(rounds, count) for count in (1, options.processes))
    row = Row(
        f"deliveries acknowledged by {options.processes} intake processes: Postgres",
        f"one, {one['rate']:,.0f}/s",
        f"{several['rate']:,.0f}/s",
        ratio=round(
            statistics.median(each[options.processes].rate / each[1].rate for each in rounds), 3
        ),
    )
    return command.tell(
        options, where, [row], {"one": one, "several": several}, f"one: {one}\nseveral: {several}"
    )


def _medians(rounds: list[dict[int, Figures]], count: int) -> dict[str, float]:
    return {
        name: round(statistics.median(getattr(each[count], name) for each in rounds), 3)
        for name in Figures.__dataclass_fields__
    }


if __name__ == "__main__":
    sys.exit(main())
