"""One measurement of a server: started, warmed up, driven, its rows compared with its 200s."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from benchmarks.compared import Server
from benchmarks.deliveries import Sender
from benchmarks.load import Load, closed_loop, steady

WARM_UP = 1.0  # seconds
WARM_UP_REQUESTS = 20_000
AHEAD = 1.5  # requests made ahead, times what the warm-up's rate would need
STEADY_CONNECTIONS = 4  # times the connections: arrivals must not wait for a free one

Starting = Callable[[], AbstractContextManager[Server]]


@dataclass(frozen=True)
class Figures:
    """One measurement, or the medians of several. Cores: processor time per second."""

    rate: float
    p50: float
    p99: float
    server_cores: float
    database_cores: float
    generator_cores: float


def maximum(starting: Starting, *, connections: int, seconds: float, first: int = 0) -> Figures:
    """Find how many deliveries a second a server takes; `first` numbers its first one."""
    with starting() as server:
        sender = Sender(server.path, first=first)
        warm = warm_up(server, sender, connections)
        requests = sender.requests(int(warm.rate * seconds * AHEAD) + connections)
        cpu, theirs = server.cpu(), server.database_cpu()
        load = closed_loop(server.addresses, requests, connections=connections, seconds=seconds)
        cpu, theirs = server.cpu() - cpu, server.database_cpu() - theirs
        server.check(warm.stored + load.stored)
    return figures(load, cpu, theirs)


def at_rate(
    starting: Starting, *, rate: float, connections: int, seconds: float
) -> tuple[Figures, Load]:
    """Find how long an answer takes when deliveries come at an even rate."""
    with starting() as server:
        sender = Sender(server.path)
        warm = warm_up(server, sender, connections)
        requests = sender.requests(max(1, int(rate * seconds)))
        cpu, theirs = server.cpu(), server.database_cpu()
        load = steady(
            server.addresses, requests, connections=connections * STEADY_CONNECTIONS, rate=rate
        )
        cpu, theirs = server.cpu() - cpu, server.database_cpu() - theirs
        server.check(warm.stored + load.stored)
    return figures(load, cpu, theirs), load


def warm_up(server: Server, sender: Sender, connections: int) -> Load:
    """Drive a server until nothing is new to it."""
    requests = sender.requests(WARM_UP_REQUESTS)
    return closed_loop(server.addresses, requests, connections=connections, seconds=WARM_UP)


def figures(load: Load, cpu: float, theirs: float) -> Figures:
    """Return the figures of a load; `cpu` and `theirs` are seconds of server and database."""
    return Figures(
        rate=load.rate,
        p50=load.quantile(0.5),
        p99=load.quantile(0.99),
        server_cores=cpu / load.seconds,
        database_cores=theirs / load.seconds,
        generator_cores=load.cpu / load.seconds,
    )
