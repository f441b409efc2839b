"""make demo: the main job end to end, as its first user sees it."""

import csv
import json
import subprocess
import sys
from pathlib import Path

from tests.processes import DEADLINE


def test_demo_survives_bad_mood_and_exports() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "receiver", "demo"], capture_output=True, text=True, timeout=DEADLINE
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    for sentence in (
        "delivery   verified",
        "duplicate  ignored",
        "forgery    refused",
        "the sender answered 500",
        "the sender answered 429",
        "25 of 25 results stored",
        "delivered 2 times",
    ):
        assert sentence in ended.stdout
    with Path("demo/results.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    lines = [json.loads(line) for line in Path("demo/results.jsonl").read_text().splitlines()]
    assert [row["run_id"] for row in rows] == [line["run_id"] for line in lines]
    assert sorted(row["status"] for row in rows) == ["completed"] * 23 + ["failed"] * 2
    assert {row["company"] for row in rows if row["company"]} == {
        line["input"]["company"] for line in lines
    }
