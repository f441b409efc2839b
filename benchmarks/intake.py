"""Acknowledged deliveries per second, as ratios between servers measured in one run.

    python -m benchmarks.intake                      all four, 3 alternating rounds of 5 s each
    python -m benchmarks.intake --only do-nothing,bare,by-hand
    python -m benchmarks.intake --steady             p99 at half of the maximum just measured
    python -m benchmarks.intake --steady --rate 3000

A measurement starts a fresh process with a fresh database, warms it up, measures, and compares the
stored rows with the 200s. The order turns round with each round; a ratio is the median of the
ratios within the rounds, so that a machine that slows down does not tilt it.
"""

import argparse
import json
import signal
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from benchmarks import machine
from benchmarks.deliveries import Sender
from benchmarks.load import Load, closed_loop, quantile, steady
from benchmarks.servers import SERVERS, Server

WARM_UP = 1.0  # seconds
WARM_UP_REQUESTS = 20_000
AHEAD = 1.5  # requests made ahead, times what the warm-up's rate would need
STEADY_CONNECTIONS = 4  # times the connections: arrivals must not wait for a free one
BUSY = 0.9  # cores, from which on one thread counts as fully used
BASES = ("do-nothing", "bare", "by-hand")


@dataclass(frozen=True)
class Figures:
    """One measurement, or the medians of several. Cores: processor time per second."""

    rate: float
    p50: float
    p99: float
    server_cores: float
    generator_cores: float


Rounds = list[dict[str, Figures]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for and print it."""
    options = _options(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwinds: processes end, files go
    where = machine.describe()
    if options.steady:
        figures = measure_steady(options)
        text = f"{options.steady_server} at a steady rate: " + ", ".join(
            f"{name} {value}" for name, value in figures.items()
        )
        _print(options, where, {"steady": figures}, text)
        return 0
    rounds = measure_rounds(options)
    report = {
        "rounds": [_plain(one) for one in rounds],
        "medians": _plain(medians(rounds)),
        "ratios": ratios(rounds),
        "notes": notes(rounds),
    }
    _print(options, where, report, table(rounds), *notes(rounds))
    return 0


def measure_rounds(options: argparse.Namespace) -> Rounds:
    """Measure every server once a round, in turning order."""
    names = options.only
    rounds: Rounds = []
    for number in range(options.rounds):
        order = names if number % 2 == 0 else names[::-1]
        found = {}
        for name in order:
            found[name] = measure(name, options.connections, options.seconds)
            print(f"round {number + 1} {name}: {found[name].rate:,.0f}/s", file=sys.stderr)
        rounds.append({name: found[name] for name in names})
    return rounds


def measure(name: str, connections: int, seconds: float) -> Figures:
    """Start a server, warm it up, measure it, and check what it stored."""
    with SERVERS[name]() as server:
        sender = Sender(server.path)
        warm = _warm_up(server, sender, connections)
        requests = sender.requests(int(warm.rate * seconds * AHEAD) + connections)
        cpu = server.cpu()
        load = closed_loop(server.address, requests, connections=connections, seconds=seconds)
        cpu = server.cpu() - cpu
        server.check(warm.stored + load.stored)
    return _figures(load, cpu)


def measure_steady(options: argparse.Namespace) -> dict[str, float]:
    """Measure the maximum, then the latency at half of it, on a server of its own each."""
    name, seconds = options.steady_server, options.seconds
    rate = options.rate or measure(name, options.connections, seconds).rate / 2
    connections = options.connections * STEADY_CONNECTIONS
    with SERVERS[name]() as server:
        sender = Sender(server.path)
        warm = _warm_up(server, sender, options.connections)
        requests = sender.requests(int(rate * seconds))
        cpu = server.cpu()
        load = steady(server.address, requests, connections=connections, rate=rate)
        cpu = server.cpu() - cpu
        server.check(warm.stored + load.stored)
    figures = _figures(load, cpu)
    return {
        "asked_per_second": round(rate, 1),
        "acks_per_second": round(figures.rate, 1),
        "p50_ms": round(figures.p50, 2),
        "p99_ms": round(figures.p99, 2),
        "max_ms": round(load.quantile(1.0), 2),
        "sent_late_p99_ms": round(quantile(load.late, 0.99) * 1000, 2),
        "server_cores": round(figures.server_cores, 2),
        "generator_cores": round(figures.generator_cores, 2),
    }


def _warm_up(server: Server, sender: Sender, connections: int) -> Load:
    requests = sender.requests(WARM_UP_REQUESTS)
    return closed_loop(server.address, requests, connections=connections, seconds=WARM_UP)


def _figures(load: Load, cpu: float) -> Figures:
    return Figures(
        rate=load.rate,
        p50=load.quantile(0.5),
        p99=load.quantile(0.99),
        server_cores=cpu / load.seconds,
        generator_cores=load.cpu / load.seconds,
    )


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
    """Lay the figures out as the one table."""
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
        f"{name}: {figures.server_cores:.2f} cores busy, generator {figures.generator_cores:.2f}"
        + _warning(name, rounds)
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


def _print(
    options: argparse.Namespace,
    where: dict[str, str | int | float],
    report: Mapping[str, object],
    *shown: Table | str,
) -> None:
    if options.json:
        print(json.dumps({"machine": where, "connections": options.connections, **report}))
        return
    console = Console()
    console.print(machine.line(where), soft_wrap=True, highlight=False)
    for one in shown:
        console.print(one, highlight=False)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.intake", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--only", type=_names, default=list(SERVERS), help="names, with commas")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--steady", action="store_true", help="latency at a steady rate")
    parser.add_argument("--rate", type=float, help="deliveries a second, with --steady")
    parser.add_argument("--steady-server", choices=list(SERVERS), default="resultsink")
    options = parser.parse_args(arguments)
    if options.seconds <= 0 or options.rounds < 1 or options.connections < 1:
        parser.error("--seconds, --rounds and --connections must be positive")
    return options


def _names(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in SERVERS]
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown: {unknown}; there are {', '.join(SERVERS)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
