"""resultsink export: whole files or none, and a word where they are not all there is."""

import asyncio
import csv
import io
import json
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from receiver.sandbox import SandboxServer
from storage import Store
from tests.receiver import working
from tests.receiver.cli.conftest import Run
from tests.receiver.working import a_batch, a_source, announce, ask, make_due, work_off
from tests.storage import build

running_sender, sender = working.running_sender, working.sender


def brought_in(store: Store, sender: SandboxServer, *queries: str) -> str:
    """A batch whose ended tasks are stored; its id."""
    batch_id, _ = a_batch(sender, queries)
    announce(store, batch_id)
    asyncio.run(work_off(store, a_source(sender.api_url)))
    return batch_id


def stored(store: Store, run_id: str, *, source: str = "valyu", **more: Any) -> None:
    """A run that no endpoint and no batch was waiting for, with its result."""
    store.runs.note(source, build.run(run_id, batch_id=None, **more), fetched_at=store.now())


@contextmanager
def no_more_than(size: int) -> Iterator[None]:
    """Files grow no further than this: as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("form", ["csv", "json", "jsonl"])
def test_file_and_standard_output_are_equal(
    run: Run, store: Store, sender: SandboxServer, form: str
) -> None:
    batch_id = brought_in(store, sender, "one", "two [fail]")
    ended = run("export", "--batch", batch_id, "--format", form, "--output", "results")
    assert (ended.code, ended.out, ended.err) == (0, "", "2 results written to results.\n")
    streamed = run("export", "--batch", batch_id, "--format", form)
    assert streamed.out.replace("\r\n", "\n") == Path("results").read_text()
    assert streamed.err == "2 results written.\n"
    assert Path("results").stat().st_mode & 0o077 != 0  # as any file, not as a temporary one


def test_export_of_failed_results_only(run: Run, store: Store, sender: SandboxServer) -> None:
    batch_id = brought_in(store, sender, "one", "two [fail]")
    shown = run("export", "--batch", batch_id, "--format", "jsonl", "--status", "failed").out
    (failed,) = map(json.loads, shown.splitlines())
    assert (failed["status"], failed["input"]["query"]) == ("failed", "two [fail]")


@pytest.mark.parametrize("by", ["--batch ID", "--source valyu", "--all"])
def test_incomplete_export_says_so(run: Run, store: Store, sender: SandboxServer, by: str) -> None:
    batch_id = brought_in(store, sender, "one", "two [stuck]")
    ended = run("export", *by.replace("ID", batch_id).split())
    assert ended.err == (
        f"1 result written.\nBatch {batch_id} is not complete: 1 of 2 results are stored.\n"
    )


def test_source_without_batches_is_exported(run: Run, store: Store, sender: SandboxServer) -> None:
    endpoint_id = store.endpoints.add("valyu", "task")
    made = ask(sender, "POST", "/deepresearch/tasks", {"query": "alone"})
    announce(store, made["deepresearch_id"], kind="task", endpoint_id=endpoint_id)
    asyncio.run(work_off(store, a_source(sender.api_url)))
    ended = run("export", "--source", "valyu", "--format", "json")
    assert [result["input"]["query"] for result in json.loads(ended.out)] == ["alone"]


def test_announced_run_of_an_account_is_exported(run: Run, store: Store) -> None:
    stored(store, "trun_1", source="parallel", output="a report")
    for asked in (["--source", "parallel"], ["--run", "trun_1"], ["--all"]):
        ended = run("export", *asked, "--format", "jsonl")
        assert ended.err == "1 result written.\n"
        assert json.loads(ended.out)["run_id"] == "trun_1"


def test_configured_source_without_results_is_empty(
    run: Run, store: Store, configured: Callable[..., None]
) -> None:
    ended = run("export", "--source", "valyu")
    assert (ended.code, ended.err) == (0, "0 results written.\n")
    assert ended.out.splitlines() == ["task_id,batch_run_id,run_id,status,runner"]


def test_run_without_result_says_so(run: Run, store: Store) -> None:
    store.runs.note_input("valyu", "t1", {"query": "one"})
    ended = run("export", "--run", "t1", "--format", "jsonl")
    assert (ended.code, ended.out) == (0, "")
    assert ended.err == (
        "0 results written.\nRun t1 has no result yet: the sender's last word is queued.\n"
    )


def test_run_of_two_sources_needs_one_of_them(run: Run, store: Store) -> None:
    for source in ("one", "two"):
        stored(store, "r1", source=source, output=source)
    assert "--source" in run("export", "--run", "r1").sentence
    shown = run("export", "--run", "r1", "--source", "two", "--format", "jsonl").out
    assert json.loads(shown)["output"] == "two"


def test_details_and_byte_order_mark_for_spreadsheets(run: Run, store: Store) -> None:
    stored(store, "t1", output={"score": 1})
    run("export", "--all", "--details", "--bom", "--output", "all.csv")
    data = Path("all.csv").read_bytes()
    assert data.startswith(b"\xef\xbb\xbftask_id,")
    assert b",error,cost,version,created_at,completed_at,fetched_at,score\r\n" in data


def test_replacing_a_file_is_said(run: Run, store: Store) -> None:
    stored(store, "t1")
    said = [run("export", "--all", "--output", "all.csv").err for _ in range(2)]
    assert said[0] == "1 result written to all.csv.\n"
    assert said[1] == "1 result written to all.csv, in place of the file that was there.\n"


def test_many_open_batches_are_counted(run: Run, store: Store) -> None:
    for number in range(23):
        store.batches.register("valyu", f"b{number}", endpoint_id=None)
    first, *named, last = run("export", "--all").err.splitlines()
    assert first == "0 results written."
    assert named[0] == "Batch b22 is not complete: 0 of 0 results are stored."
    assert (len(named), last) == (20, "3 more batches are not complete (see `batch list`).")


def test_source_export_counts_missing_runs(run: Run, store: Store) -> None:
    store.endpoints.add("valyu", "task", resource="t1")
    announce(store, "t2", kind="task")
    ended = run("export", "--source", "valyu")
    assert ended.code == 0  # as where a batch is not complete
    assert ended.err == (
        "0 results written.\nSource valyu is not complete: 2 single runs have no result "
        "(see `endpoint list` and `dead list`).\n"
    )


def test_columns_of_the_tasks_come_back(
    run: Run, store: Store, sender: SandboxServer, configured: Callable[..., None]
) -> None:
    configured(sources__valyu__base_url=sender.api_url)
    sender.change(hold=True)
    Path("tasks.csv").write_text('query,id,region\n"one\ntwo",a,north\nthree,b,\n')
    batch_id = run("batch", "create", "valyu", "--tasks", "tasks.csv").out.strip()
    sender.change(hold=False)
    make_due(store)
    asyncio.run(work_off(store, a_source(sender.api_url)))
    rows = list(csv.DictReader(io.StringIO(run("export", "--batch", batch_id).out, newline="")))
    assert [(row["task_id"], row["query"], row["region"]) for row in rows] == [
        ("a", "one\ntwo", "north"),
        ("b", "three", ""),
    ]


def test_full_disk_keeps_the_old_file(run: Run, store: Store, sender: SandboxServer) -> None:
    sender.change(output_bytes=300_000)
    batch_id = brought_in(store, sender, "one")
    Path("results.csv").write_text("the old ones")
    files = set(Path().iterdir())
    with no_more_than(100_000):
        ended = run("export", "--batch", batch_id, "--output", "results.csv")
    assert (ended.code, ended.sentence) == (2, "results.csv cannot be written: File too large.")
    assert Path("results.csv").read_text() == "the old ones"
    assert set(Path().iterdir()) == files
