"""Programs read ledgers as `batch show --json` has them, results, single runs."""

import json
from datetime import timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import update

from storage import Ages, Store
from storage.models import Batch
from tests.databases import url_of, variables
from tests.receiver.api.conftest import MakeProgram, Program, problem
from tests.receiver.cli import conftest as command_line
from tests.receiver.conftest import add_endpoint
from tests.storage import build

run = command_line.run


@pytest.fixture
def mine(program: MakeProgram) -> Program:
    """A program that may read."""
    return program("read")


def fill(store: Store, *run_ids: str, batch_id: str = "b", **more: Any) -> None:
    """A batch with these results, of which two are never announced."""
    add_endpoint(store, batch_id)
    page = [build.run(run_id, batch_id=batch_id, output="é", **more) for run_id in run_ids]
    store.database.write(lambda connection: build.keep(connection, *page))
    store.batches.add_runs("valyu", batch_id, [], submitted=len(run_ids) + 2)


def complete(store: Store) -> None:
    """Let the batches have no more runs than are stored."""
    store.database.write(
        lambda connection: connection.execute(update(Batch).values(state="complete", submitted=0))
    )


def run_ids(response: httpx.Response) -> list[str]:
    assert response.headers["content-type"].startswith("application/x-ndjson")
    return [json.loads(line)["run_id"] for line in response.text.splitlines()]


async def test_the_newest_batches_come_first(mine: Program, store: Store) -> None:
    for batch_id in ("b1", "b2", "b3"):
        fill(store, batch_id=batch_id)
    shown = (await mine.ask("GET", "/batches?limit=2&source=valyu")).json()
    assert [ledger["batch_id"] for ledger in shown["batches"]] == ["b3", "b2"]
    assert (await mine.ask("GET", "/batches?source=nobody")).json() == {"batches": []}


async def test_ledger_equals_the_command_line_s(
    mine: Program, store: Store, run: command_line.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store, "r1", "r2")
    for name, value in variables(url_of(store)).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RESULTSINK_SOURCES__VALYU__API_KEY", "v")
    shown = (await mine.ask("GET", "/batches/b")).json()
    printed = json.loads(run("batch", "show", "b", "--json").out)
    assert shown == {**printed, "read_at": shown["read_at"]}
    assert (shown["state"], shown["expected"], shown["stored"]) == ("open", 4, 2)
    assert (shown["missing_runs"], shown["dead"]) == ([], [])


async def test_results_are_json_lines(mine: Program, store: Store) -> None:
    fill(store, "r1", "r2")
    response = await mine.ask("GET", "/batches/b/results")
    assert (run_ids(response), response.headers["resultsink-complete"]) == (["r1", "r2"], "false")
    assert json.loads(response.text.splitlines()[0])["output"] == "é"
    assert response.text.endswith("}\n")


async def test_results_of_all_sources_or_one(mine: Program, store: Store) -> None:
    fill(store, "r1")
    other = build.run("r2", batch_id=None)
    store.runs.note("other", other, fetched_at=store.now())
    assert run_ids(await mine.ask("GET", "/results")) == ["r1", "r2"]
    alone = await mine.ask("GET", "/results?source=other")
    assert (run_ids(alone), alone.headers["resultsink-complete"]) == (["r2"], "true")
    open_ones = await mine.ask("GET", "/results?source=valyu&status=failed")
    assert (run_ids(open_ones), open_ones.headers["resultsink-complete"]) == ([], "false")


async def test_token_of_a_source_reads_its_results(program: MakeProgram, store: Store) -> None:
    fill(store, "r1")
    theirs = program("read", source="other")
    assert run_ids(await theirs.ask("GET", "/results")) == []
    assert (await theirs.ask("GET", "/results?source=valyu")).status_code == 403


async def test_complete_results_say_so(mine: Program, store: Store) -> None:
    fill(store, "r1")
    complete(store)
    response = await mine.ask("GET", "/batches/b/results")
    assert response.headers["resultsink-complete"] == "true"


def pruned(store: Store, *run_ids: str) -> None:
    """A complete batch, and these runs of it without the content that they had."""
    fill(store, *run_ids)
    complete(store)
    assert store.retention.prune("results", Ages(results=timedelta(0))).rows == len(run_ids)


async def test_pruned_results_are_left_out(mine: Program, store: Store) -> None:
    pruned(store, "r1")
    later = build.run("r2", batch_id="b")
    store.database.write(lambda c: build.keep(c, later, fetched_at=store.now()))
    shown = (await mine.ask("GET", "/batches/b")).json()
    assert (shown["state"], shown["pruned"]) == ("complete", 1)
    response = await mine.ask("GET", "/batches/b/results")
    assert (run_ids(response), response.headers["resultsink-complete"]) == (["r2"], "false")


async def test_pruned_run_is_gone(mine: Program, store: Store) -> None:
    pruned(store, "r1")
    sentence = "The content of this result was pruned for its age: ask the sender."
    assert problem(await mine.ask("GET", "/runs/r1?source=valyu")) == (410, sentence)


async def test_results_filtered_by_status(mine: Program, store: Store) -> None:
    fill(store, "good")
    fill(store, "bad", status="failed")
    for status, expected in (("failed", ["bad"]), ("completed", ["good"]), ("all", None)):
        response = await mine.ask("GET", f"/batches/b/results?status={status}")
        assert run_ids(response) == (expected or ["good", "bad"])


async def test_batch_without_results_is_empty(mine: Program, store: Store) -> None:
    fill(store)
    response = await mine.ask("GET", "/batches/b/results")
    assert (response.status_code, response.content) == (200, b"")


async def test_one_run_is_its_current_result(mine: Program, store: Store) -> None:
    fill(store, "r1", "r2")
    later = build.run("r2", batch_id="b", error="later")
    store.database.write(lambda c: build.keep(c, later, fetched_at=build.at(60)))
    response = await mine.ask("GET", "/runs/r2?source=valyu")
    assert response.headers["content-type"] == "application/json"
    assert (response.json()["run_id"], response.json()["error"]) == ("r2", "later")
    assert problem(await mine.ask("GET", "/runs/r3?source=valyu"))[0] == 404
    assert problem(await mine.ask("GET", "/runs/r2?source=other"))[0] == 404
    assert problem(await mine.ask("GET", "/runs/r2"))[0] == 400


async def test_run_without_a_result_is_202(mine: Program, store: Store) -> None:
    add_endpoint(store, "r1", kind="run")
    response = await mine.ask("GET", "/runs/r1?source=valyu")
    known = {"source": "valyu", "run_id": "r1", "sender_status": None, "waits_for": None}
    assert (response.status_code, response.json()) == (202, known)
    assert response.headers["retry-after"] == "5"


async def test_line_separators_in_results_are_escaped(mine: Program, store: Store) -> None:
    text = "one\x85two\u2028three\u2029four\x1cfive\nsix"
    fill(store, "r1", "r2", error=text)
    lines = (await mine.ask("GET", "/batches/b/results")).text.splitlines()
    assert [json.loads(line)["error"] for line in lines] == [text, text]


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("/batches?sources=valyu", "There is no parameter 'sources' here: leave it out "),
        ("/batches?limit=0", "The parameter limit is a number from 1 to 1000: send that."),
        ("/batches?limit=x", "The parameter limit is a number from 1 to 1000: send that."),
        ("/batches?limit=1&limit=2", "Give the parameter limit once, with a value."),
        ("/batches?source=", "Give the parameter source once, with a value."),
        ("/batches/b?limit=1", "There is no parameter 'limit' here: leave it out "),
        ("/batches/b/results?status=queued", "There is no such status: use all, completed, "),
        ("/batches/b/results?format=csv", "There is no parameter 'format' here: leave it out "),
    ],
)
async def test_what_is_not_understood_is_refused(mine: Program, query: str, sentence: str) -> None:
    status, shown = problem(await mine.ask("GET", query))
    assert (status, shown[: len(sentence)]) == (400, sentence)


async def test_unknown_batch_is_not_found(mine: Program, store: Store) -> None:
    fill(store, "r1")
    for path in ("/batches/c", "/batches/b?source=other", "/batches/c/results", "/batches/%00"):
        assert problem(await mine.ask("GET", path))[0] == 404


async def test_signature_of_a_url_is_hidden(mine: Program, store: Store) -> None:
    url = "https://files.example.com/a?X-Amz-Signature=0123456789abcdef0123456789"
    fill(store, "r1", sources=[{"url": url}])
    for path in ("/batches/b/results", "/runs/r1?source=valyu"):
        response = await mine.ask("GET", path)
        assert "0123456789abcdef" not in response.text
        assert "X-Amz-Signature=hidden" in response.text
