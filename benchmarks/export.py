"""Export a million results as CSV, against the `sqlite3` command line over the same rows.

    python -m benchmarks.export [--rows 1000000] [--rounds 3]

The baseline is `sqlite3 -csv` with one json_extract per column: it is told the columns that the
export has to find out. Where that program is missing, Python's sqlite3 and csv.writer run the same
statement, and the output says so. Each side runs in a process of its own, after the file was read
once, and writes to a file; the sides take turns, and the middle of the rounds counts. The export's
memory is its process's largest resident size.
"""

import argparse
import csv
import json
import os
import resource
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import storage
from benchmarks import machine
from benchmarks.command import Command
from benchmarks.rows import Row, at_least, at_most
from storage import Selection

REACH = 0.2
MEGABYTES = 200
FORMATS = ("csv", "jsonl")
BATCH_RUNS = 1_000
INPUTS = ("company", "country", "question")
OUTPUTS = ("summary", "founded", "revenue", "public", "products")
WORDS = "The grid operator said that storage, once “too dear”, now pays for itself in winter. "

INSERT_RUN = """INSERT INTO runs (id, source, run_id, batch_id, task_id, status, runner, input)
VALUES (?, 'valyu', ?, ?, ?, 'completed', 'fast', ?)"""
INSERT_RESULT = """INSERT INTO results (id, run_pk, version, is_current, digest, status, output,
output_type, sources, completed_at, fetched_at, stored_at, origin, cleaned, raw)
VALUES (?, ?, 1, 1, ?, 'completed', ?, 'json', '[]', ?, ?, ?, 'api', 0, ?)"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Fill a database, run both sides, print the figures."""
    command = Command("export", __doc__, stores=False)
    command.size("--rows", 1_000_000, 5_000, "results stored")
    command.size("--rounds", 3, 1, "of all sides")
    command.parser.add_argument("--one-export", nargs=2, help=argparse.SUPPRESS)
    options = command.read(arguments)
    if options.one_export:
        print(json.dumps(_one_export(*options.one_export)))
        return 0
    where = machine.describe()
    with tempfile.TemporaryDirectory(prefix="resultsink-export-") as folder:
        figures = measure(Path(folder), options.rows, options.rounds)
    return command.tell(options, where, _rows(figures), figures, _told(figures))


def measure(folder: Path, rows: int, rounds: int) -> dict[str, Any]:
    """Give seconds of the baseline and of each format, the CSV ratio, and the memory."""
    path = folder / "bench.db"
    fill(path, rows)
    _read_once(path)
    seen: dict[str, list[dict[str, Any]]] = {"baseline": [], **{each: [] for each in FORMATS}}
    for _ in range(rounds):
        seen["baseline"].append(_baseline(path, folder / "baseline.csv"))
        for format in FORMATS:
            seen[format].append(_in_fresh_process(path, format))
    assert all(one["rows"] == rows for side in seen.values() for one in side), seen
    pairs = zip(seen["baseline"], seen["csv"], strict=True)
    ratio = statistics.median(theirs["seconds"] / ours["seconds"] for theirs, ours in pairs)
    return {
        "rows": rows,
        "rounds": rounds,
        "database_megabytes": path.stat().st_size >> 20,
        "csv_ratio": round(ratio, 3),
        **{side: _middle(measured) for side, measured in seen.items()},
    }


def _middle(measured: list[dict[str, Any]]) -> dict[str, Any]:
    return sorted(measured, key=lambda one: one["seconds"])[len(measured) // 2]


def fill(path: Path, rows: int) -> None:
    """Make the tables by the migrations and the rows by plain SQL."""
    storage.open(f"sqlite:///{path}").close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA synchronous = OFF")
    with connection:
        connection.executemany(INSERT_RUN, _runs(rows))
        connection.executemany(INSERT_RESULT, _results(rows))
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def _runs(rows: int) -> Iterator[tuple[Any, ...]]:
    for number in range(1, rows + 1):
        given = {
            "company": f"Company {number}",
            "country": "España",
            "question": f"What does company {number} say about storage?",
        }
        batch = f"batch_{number // BATCH_RUNS}"
        yield number, f"run_{number}", batch, f"task-{number}", json.dumps(given)


def _results(rows: int) -> Iterator[tuple[Any, ...]]:
    moment = "2026-10-05 09:00:00.000000"
    for number in range(1, rows + 1):
        brought = {
            "summary": f"{number}: " + WORDS * 3,
            "founded": 1900 + number % 120,
            "revenue": number / 7,
            "public": number % 2 == 0,
            "products": [{"name": "Cell", "price": number % 90}, {"name": "Pack", "price": None}],
        }
        output = json.dumps(brought)
        raw = json.dumps({"deepresearch_id": f"run_{number}", "output": brought})
        digest = number.to_bytes(32, "big")
        yield number, number, digest, output, moment, moment, moment, raw


def _read_once(path: Path) -> None:
    with path.open("rb") as file:
        while file.read(1 << 20):
            pass


def _statement() -> str:
    cells = [f"json_extract(runs.input, '$.{key}')" for key in INPUTS]
    cells += [f"json_extract(results.output, '$.{key}')" for key in OUTPUTS]
    return f"""SELECT task_id, batch_id, run_id, results.status, runner, {", ".join(cells)}
        FROM runs JOIN results ON run_pk = runs.id WHERE is_current ORDER BY runs.id"""  # noqa: S608


def _baseline(path: Path, target: Path) -> dict[str, Any]:
    """Run the statement; tell who ran it and the seconds it took."""
    program = shutil.which("sqlite3")
    with target.open("w", newline="") as out:
        start = time.perf_counter()
        if program:
            subprocess.run([program, "-csv", path, _statement()], stdout=out, check=True)  # noqa: S603
        else:
            csv.writer(out).writerows(sqlite3.connect(path).execute(_statement()))
        seconds = time.perf_counter() - start
    with target.open(newline="") as written:
        rows = sum(1 for _ in csv.reader(written))
    target.unlink()
    name = "sqlite3 -csv" if program else "Python's sqlite3 and csv.writer (no sqlite3 program)"
    return {"name": name, "rows": rows, "seconds": round(seconds, 2)}


def _in_fresh_process(path: Path, format: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.export", "--one-export", str(path), format]
    ran = subprocess.run(command, stdout=subprocess.PIPE, check=True)  # noqa: S603
    figures: dict[str, Any] = json.loads(ran.stdout)
    return figures


def _one_export(path: str, format: str) -> dict[str, Any]:
    target = f"{path}.{format}"
    with closing(storage.open(f"sqlite:///{path}")) as store, open(target, "wb") as out:
        start = time.perf_counter()
        report = store.export.write(Selection(), format, out)
        seconds = time.perf_counter() - start
    size = os.path.getsize(target)
    os.unlink(target)
    return {
        "rows": report.rows,
        "seconds": round(seconds, 2),
        "megabytes": size >> 20,
        "resident_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
    }


def _rows(figures: dict[str, Any]) -> list[Row]:
    ours, baseline, rows = figures["csv"], figures["baseline"], figures["rows"]
    return [
        at_least(
            f"export of {rows:,} results as CSV",
            f"{baseline['name']}, {rows / baseline['seconds']:,.0f} rows/s",
            f"{rows / ours['seconds']:,.0f} rows/s",
            ratio=figures["csv_ratio"],
            least=REACH,
        ),
        *(
            at_most(
                f"most memory, export of {rows:,} results as {format}",
                "-",
                figures[format]["resident_megabytes"],
                "MB",
                most=MEGABYTES,
            )
            for format in FORMATS
        ),
    ]


def _told(figures: dict[str, Any]) -> str:
    lines = [
        f"{figures['rows']:,} results, database of {figures['database_megabytes']} MB",
        f"{figures['baseline']['name']}: {figures['baseline']['seconds']} s",
    ]
    for format in FORMATS:
        ours = figures[format]
        lines.append(
            f"export {format}: {ours['seconds']} s, {ours['megabytes']} MB written, "
            f"at most {ours['resident_megabytes']} MB resident"
        )
    ratio, rounds = figures["csv_ratio"], figures["rounds"]
    lines.append(f"CSV at {ratio} of the baseline's speed, median of {rounds} (reach: {REACH})")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
