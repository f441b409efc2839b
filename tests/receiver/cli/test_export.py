"""resultsink export: whole files or none, and a word where they are not all there is."""

import asyncio
import csv
import io
import json
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from receiver.sandbox import SandboxServer
from storage import Store
from tests.receiver import working
from tests.receiver.cli.conftest import Run
from tests.receiver.working import a_batch, a_source, announce, ask, make_due, work_off

running_sender, sender = working.running_sender, working.sender


def brought_in(store: Store, sender: SandboxServer, *queries: str) -> str:
    """A batch whose ended tasks are stored; its id."""
    batch_id, _ = a_batch(sender, queries)
    announce(store, batch_id)
    asyncio.run(work_off(store, a_source(sender.api_url)))
    return batch_id


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


@pytest.mark.parametrize("by", ["--batch", "--source"])
def test_incomplete_export_says_so(run: Run, store: Store, sender: SandboxServer, by: str) -> None:
    batch_id = brought_in(store, sender, "one", "two [stuck]")
    ended = run("export", by, batch_id if by == "--batch" else "valyu")
    assert ended.err == (
        f"1 results written.\nBatch {batch_id} is not complete: 1 of 2 results are stored.\n"
    )


def test_source_without_batches_is_exported(run: Run, store: Store, sender: SandboxServer) -> None:
    endpoint_id = store.endpoints.add("valyu", "task")
    made = ask(sender, "POST", "/deepresearch/tasks", {"query": "alone"})
    announce(store, made["deepresearch_id"], kind="task", endpoint_id=endpoint_id)
    asyncio.run(work_off(store, a_source(sender.api_url)))
    ended = run("export", "--source", "valyu", "--format", "json")
    assert [result["input"]["query"] for result in json.loads(ended.out)] == ["alone"]


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
