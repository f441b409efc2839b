"""A POST under an Idempotency-Key has its effect, and its answer, once."""

import asyncio
from typing import Any

import httpx
import pytest

from storage import CannotStore, Store
from tests.receiver.api.conftest import NEW, MakeProgram, Program, problem
from tests.receiver.conftest import SECRET
from tests.receiver.working import sql

KEY = "8e03978e-40d5-43dd-bc93-6894a57f9324"


@pytest.fixture
def mine(program: MakeProgram) -> Program:
    """A program that may register."""
    return program("register")


async def post(
    program: Program, key: str = KEY, value: Any = NEW, path: str = "/endpoints"
) -> httpx.Response:
    program.headers["idempotency-key"] = key
    return await program.ask("POST", path, value)


async def test_repeated_request_is_answered_again(mine: Program, store: Store) -> None:
    body = {**NEW, "secret": SECRET}
    first, again = [await post(mine, value=body) for _ in range(2)]
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.content == again.content
    assert (first.headers.get("idempotency-replayed"), again.headers["idempotency-replayed"]) == (
        None,
        "true",
    )
    (endpoint,) = store.endpoints.list_all()
    assert endpoint["id"] == first.json()["endpoint"]
    (row,) = sql(store, "SELECT * FROM idempotency_keys")
    assert SECRET not in str(row)


async def test_key_may_stand_in_quotes(mine: Program, store: Store) -> None:
    await post(mine, f'"{KEY}"')
    await post(mine, KEY)
    assert len(store.endpoints.list_all()) == 1


async def test_other_keys_and_other_tokens_make_others(
    program: MakeProgram, mine: Program, store: Store
) -> None:
    await post(mine)
    await post(mine, "another")
    await post(program("register"))
    assert len(store.endpoints.list_all()) == 3


async def test_key_of_another_request_is_refused(mine: Program, store: Store) -> None:
    await post(mine)
    status, sentence = problem(await post(mine, value={**NEW, "kind": "task"}))
    assert (status, sentence.split(":")[0]) == (
        422,
        "This Idempotency-Key was sent with another request",
    )
    assert len(store.endpoints.list_all()) == 1


async def test_request_in_progress_is_a_conflict(
    mine: Program, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    add, answers = store.endpoints.add, list[httpx.Response]()
    loop = asyncio.get_running_loop()

    def meanwhile(*args: Any, **named: Any) -> str:
        answers.append(asyncio.run_coroutine_threadsafe(post(mine), loop).result())
        return add(*args, **named)

    monkeypatch.setattr(store.endpoints, "add", meanwhile)
    assert (await post(mine)).status_code == 201
    (other,) = answers
    assert (problem(other)[0], other.headers["retry-after"]) == (409, "5")
    assert len(store.endpoints.list_all()) == 1


async def test_interrupted_request_is_carried_out_once(
    mine: Program, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The endpoint was made, and the answer to its COMMIT was lost."""
    add = store.endpoints.add

    def losing(*args: Any, **named: Any) -> str:
        add(*args, **named)
        monkeypatch.setattr(store.endpoints, "add", add)
        raise CannotStore("The connection was lost.")

    monkeypatch.setattr(store.endpoints, "add", losing)
    assert (await post(mine)).status_code == 503
    assert (await post(mine)).status_code == 201
    assert len(store.endpoints.list_all()) == 1


async def test_request_of_a_dead_process_is_taken_over(mine: Program, store: Store) -> None:
    made = (await post(mine)).json()
    sql(store, "UPDATE idempotency_keys SET status = NULL, body = NULL")
    assert problem(await post(mine))[0] == 409
    sql(store, "UPDATE idempotency_keys SET began_at = '2020-01-01 00:00:00.000000'")
    assert (await post(mine)).json() == made
    assert len(store.endpoints.list_all()) == 1


async def test_refused_request_leaves_its_key_unused(mine: Program, store: Store) -> None:
    assert problem(await post(mine, value={**NEW, "kind": "nope"}))[0] == 422
    assert (await post(mine)).status_code == 201


async def test_key_is_forgotten_after_a_day(mine: Program, store: Store) -> None:
    await post(mine)
    sql(store, "UPDATE idempotency_keys SET created_at = '2020-01-01 00:00:00.000000'")
    await post(mine, "another")
    assert [row["key"] for row in sql(store, "SELECT key FROM idempotency_keys")] == ["another"]


@pytest.mark.one_database  # nothing is read or written
@pytest.mark.parametrize("key", ["", "k" * 256, "two words", '"open', "\x7f"])
async def test_unusable_key_is_one_sentence(mine: Program, key: str) -> None:
    status, sentence = problem(await post(mine, key))
    assert (status, sentence) == (
        400,
        "The header Idempotency-Key must be 1 to 255 printable ASCII characters, once: "
        "send a random UUID.",
    )
