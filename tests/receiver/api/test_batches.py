"""What programs read: ledgers as `batch show --json` has them, results, single runs."""

import json
from datetime import timedelta
from typing import Any

import httpx
import pytest

from storage import Ages, Store
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
    """A batch with these results, of which two are never told of."""
    add_endpoint(store, batch_id)
    page = [build.run(run_id, batch_id=batch_id, output="é", **more) for run_id in run_ids]
    store.database.write(lambda connection: build.keep(connection, *page))
    store.batches.add_runs("valyu", batch_id, [], unlisted=len(run_ids) + 2)


def run_ids(reply: httpx.Response) -> list[str]:
    assert reply.headers["content-type"].startswith("application/x-ndjson")
    return [json.loads(line)["run_id"] for line in reply.text.splitlines()]


async def test_the_newest_batches_come_first(mine: Program, store: Store) -> None:
    for batch_id in ("b1", "b2", "b3"):
        fill(store, batch_id=batch_id)
    told = (await mine.ask("GET", "/batches?limit=2&source=valyu")).json()
    assert [ledger["batch_id"] for ledger in told["batches"]] == ["b3", "b2"]
    assert (await mine.ask("GET", "/batches?source=nobody")).json() == {"batches": []}


async def test_a_ledger_is_that_of_the_command_line(
    mine: Program, store: Store, run: command_line.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store, "r1", "r2")
    for name, value in variables(url_of(store)).items():
        monkeypatch.setenv(name, value)
    told = (await mine.ask("GET", "/batches/b")).json()
    assert told == json.loads(run("batch", "show", "b", "--json").out)
    assert (told["state"], told["expected"], told["stored"]) == ("open", 4, 2)
    assert (told["missing"], told["dead"]) == ([], [])


async def test_results_come_as_json_lines_and_say_that_they_are_not_all(
    mine: Program, store: Store
) -> None:
    fill(store, "r1", "r2")
    reply = await mine.ask("GET", "/batches/b/results")
    assert (run_ids(reply), reply.headers["resultsink-complete"]) == (["r1", "r2"], "false")
    assert json.loads(reply.text.splitlines()[0])["output"] == "é"
    assert reply.text.endswith("}\n")


async def test_results_of_a_complete_batch_say_so(mine: Program, store: Store) -> None:
    fill(store, "r1")
    store.database.write(
        lambda connection: connection.exec_driver_sql("UPDATE batches SET state = 'complete'")
    )
    reply = await mine.ask("GET", "/batches/b/results")
    assert reply.headers["resultsink-complete"] == "true"


def pruned(store: Store, *run_ids: str) -> None:
    """A complete batch, and these runs of it without the content that they had."""
    fill(store, *run_ids)
    store.database.write(
        lambda connection: connection.exec_driver_sql("UPDATE batches SET state = 'complete'")
    )
    assert store.retention.prune("results", Ages(results=timedelta(0))).rows == len(run_ids)


async def test_results_that_were_pruned_are_left_out_and_that_is_said(
    mine: Program, store: Store
) -> None:
    pruned(store, "r1")
    later = build.run("r2", batch_id="b")
    store.database.write(lambda c: build.keep(c, later, fetched_at=store.now()))
    told = (await mine.ask("GET", "/batches/b")).json()
    assert (told["state"], told["pruned"]) == ("complete", 1)
    reply = await mine.ask("GET", "/batches/b/results")
    assert (run_ids(reply), reply.headers["resultsink-complete"]) == (["r2"], "false")


async def test_a_run_whose_content_was_pruned_is_gone_and_not_only_late(
    mine: Program, store: Store
) -> None:
    pruned(store, "r1")
    sentence = "The content of this result was pruned for its age: ask the sender."
    assert problem(await mine.ask("GET", "/runs/r1?source=valyu")) == (410, sentence)


async def test_results_can_be_narrowed_by_their_status(mine: Program, store: Store) -> None:
    fill(store, "good")
    fill(store, "bad", status="failed")
    for status, expected in (("failed", ["bad"]), ("completed", ["good"]), ("all", None)):
        reply = await mine.ask("GET", f"/batches/b/results?status={status}")
        assert run_ids(reply) == (expected or ["good", "bad"])


async def test_a_batch_without_results_is_an_empty_answer(mine: Program, store: Store) -> None:
    fill(store)
    reply = await mine.ask("GET", "/batches/b/results")
    assert (reply.status_code, reply.content) == (200, b"")


async def test_one_run_is_its_current_result(mine: Program, store: Store) -> None:
    fill(store, "r1", "r2")
    later = build.run("r2", batch_id="b", error="later")
    store.database.write(lambda c: build.keep(c, later, fetched_at=build.at(60)))
    reply = await mine.ask("GET", "/runs/r2?source=valyu")
    assert reply.headers["content-type"] == "application/json"
    assert (reply.json()["run_id"], reply.json()["error"]) == ("r2", "later")
    assert problem(await mine.ask("GET", "/runs/r3?source=valyu"))[0] == 404
    assert problem(await mine.ask("GET", "/runs/r2?source=other"))[0] == 404
    assert problem(await mine.ask("GET", "/runs/r2"))[0] == 400


async def test_a_run_without_a_result_is_accepted_and_not_unknown(
    mine: Program, store: Store
) -> None:
    add_endpoint(store, "r1", kind="run")
    reply = await mine.ask("GET", "/runs/r1?source=valyu")
    known = {"source": "valyu", "run_id": "r1", "sender_status": None, "waits_for": None}
    assert (reply.status_code, reply.json()) == (202, known)
    assert reply.headers["retry-after"] == "5"


async def test_no_client_can_take_a_character_of_a_result_for_a_line_end(
    mine: Program, store: Store
) -> None:
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
    status, told = problem(await mine.ask("GET", query))
    assert (status, told[: len(sentence)]) == (400, sentence)


async def test_a_batch_that_is_not_there_is_not_found(mine: Program, store: Store) -> None:
    fill(store, "r1")
    for path in ("/batches/c", "/batches/b?source=other", "/batches/c/results", "/batches/%00"):
        assert problem(await mine.ask("GET", path))[0] == 404


async def test_what_signs_a_url_is_hidden_as_in_an_export(mine: Program, store: Store) -> None:
    url = "https://files.example.com/a?X-Amz-Signature=0123456789abcdef0123456789"
    fill(store, "r1", sources=[{"url": url}])
    for path in ("/batches/b/results", "/runs/r1?source=valyu"):
        reply = await mine.ask("GET", path)
        assert "0123456789abcdef" not in reply.text
        assert "X-Amz-Signature=hidden" in reply.text
