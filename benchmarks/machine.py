"""The machine that the figures are from, in one line."""

import os
import platform
import sqlite3
import statistics
import tempfile
import time
from pathlib import Path

SYNCS = 200
BLOCK = b"x" * 4096


def describe() -> dict[str, str | int | float]:
    """Say what stands beside every figure: without it a number means nothing."""
    return {
        "cores": os.cpu_count() or 0,
        "cpu": _processor(),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "sqlite": sqlite3.sqlite_version,
        "fdatasync_ms": round(sync_time() * 1000, 3),
        "load_before": round(os.getloadavg()[0], 2),
    }


def line(machine: dict[str, str | int | float]) -> str:
    """Write the description as one line."""
    return (
        f"{machine['cores']} cores ({machine['cpu']}), Python {machine['python']}, "
        f"Linux {machine['kernel']}, SQLite {machine['sqlite']}, "
        f"4 kB fdatasync {machine['fdatasync_ms']} ms (median of {SYNCS}), "
        f"load before {machine['load_before']}"
    )


def sync_time() -> float:
    """Give the median seconds of appending 4 kB and fdatasync, where the databases will be."""
    times = []
    with tempfile.TemporaryFile(buffering=0) as file:
        for _ in range(SYNCS):
            begin = time.perf_counter()
            file.write(BLOCK)
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - begin)
    return statistics.median(times)


def _processor() -> str:
    for text in Path("/proc/cpuinfo").read_text().splitlines():
        if text.startswith("model name"):
            return text.partition(":")[2].strip()
    return platform.machine()
