"""Pages that are too large, refused, late or about something else."""

import contextlib
import json
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from receiver.errors import (
    NotReady,
    Refused,
    Unavailable,
    Unreadable,
)
from receiver.sandbox import SandboxServer
from receiver.work.fetch.batches import LISTED_IN_VAIN_AT_ALL
from receiver.work.fetch.late_outputs import FEWEST_LOOKS, SEEN_WITHOUT_OUTPUT
from storage import CannotStore, Progress, Store, Stored, SubmittedRun
from tests.processes import DEADLINE
from tests.receiver import working
from tests.receiver.working import (
    LISTS,
    a_batch,
    a_run,
    a_source,
    announce,
    answering,
    batch_of_one,
    claim,
    fetch,
    job,
    make_old,
    run_named,
    sql,
    stored,
)

# The wire decides what happens here, not SQL: one database is enough.
pytestmark = pytest.mark.sqlite

running_sender, sender = working.running_sender, working.sender


async def test_large_page_is_halved(
    store: Store, sender: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("receiver.sender_api.calls.MAX_ANSWER_BYTES", 40_000)
    sender.change(output_bytes=10_000)
    batch_id, _ = a_batch(sender, 8)
    announce(store, batch_id)
    assert await fetch(store, a_source(sender.api_url)) == "8 of 8 results stored"
    assert sender.state()["calls"][LISTS] == 8  # 100, 50, 25, 12, 6 are too large, then by three


async def test_refused_page_size_uses_default(store: Store) -> None:
    sizes: list[str | None] = []

    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/tasks"):
            sizes.append(request.url.params.get("limit"))
            if sizes[-1] is not None:
                return httpx.Response(400, json={"error": "limit is not allowed"})
        return batch_of_one(request, {"total": 1, "completed": 1})

    announce(store, "batch_1")
    assert await fetch(store, a_source(), client=answering(handler)) == "1 of 1 results stored"
    assert sizes == ["100", None]


async def test_always_refused_page_is_refused(store: Store) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/tasks"):
            return httpx.Response(400, json={"error": "no"})
        return batch_of_one(request, {"total": 1})

    announce(store, "batch_1")
    with pytest.raises(Refused, match="400: no"):
        await fetch(store, a_source(), client=answering(handler))


async def test_sizeless_sender_too_large_is_bounded(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("receiver.sender_api.calls.MAX_ANSWER_BYTES", 1000)
    asked_sizes: list[str | None] = []

    def handler(request: httpx.Request) -> httpx.Response:
        if not request.url.path.endswith("/tasks"):
            return batch_of_one(request, {"total": 1})
        asked_sizes.append(request.url.params.get("limit"))
        assert len(asked_sizes) < 100
        if asked_sizes[-1] is not None:
            return httpx.Response(400, json={"error": "limit is not allowed"})
        return httpx.Response(200, content=b" " * 1001)

    announce(store, "batch_1")
    with pytest.raises(Unavailable, match="more than 1000 bytes"):
        await fetch(store, a_source(), client=answering(handler))
    assert [size for size in asked_sizes if size] == ["100", "50", "25", "12", "6", "3", "1"]


async def test_unreadable_page_is_halved(store: Store) -> None:
    runs = [json.dumps(run_named(f"t{number}")) for number in range(4)]
    runs[3] = '{"half": '

    def handler(request: httpx.Request) -> httpx.Response:
        if not request.url.path.endswith("/tasks"):
            return batch_of_one(request, {"total": 4, "completed": 4})
        first = int(request.url.params.get("last_key") or 0)
        shown, after = runs[first:][: int(request.url.params["limit"])], first + 1
        more = json.dumps({"last_key": str(after), "has_more": after < len(runs)})
        return httpx.Response(200, text=f'{{"tasks": [{",".join(shown)}], "pagination": {more}}}')

    announce(store, "batch_1")
    with pytest.raises(Unreadable, match="no JSON"):
        await fetch(store, a_source(), client=answering(handler))
    assert {row["run_id"] for row in stored(store)} == {"t0", "t1", "t2"}


async def test_page_stored_while_next_is_fetched(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_sizes = {page: threading.Event() for page in range(1, 5)}
    cursors: list[Any] = []

    def handler(request: httpx.Request) -> httpx.Response:
        if not request.url.path.endswith("/tasks"):
            return batch_of_one(request, {"total": 9, "completed": 9})
        page = int(request.url.params.get("last_key") or 1)
        asked_sizes[page].set()
        if page == 4:
            return httpx.Response(500)
        more = {"last_key": str(page + 1), "has_more": True}
        return httpx.Response(200, json={"tasks": [run_named(f"t{page}")], "pagination": more})

    def store_late(*args: Any, progress: Progress, **more: Any) -> Stored:
        cursors.append(progress["listing"]["cursor"])
        assert asked_sizes[len(cursors) + 1].wait(DEADLINE)
        return store_now(*args, progress=progress, **more)

    store_now = store.results.store_rows
    monkeypatch.setattr(store.results, "store_rows", store_late)
    announce(store, "batch_1")
    with pytest.raises(Unavailable, match="500"):
        await fetch(store, a_source(), client=answering(handler))
    assert cursors == ["2", "3", "4"]
    assert [row["run_id"] for row in stored(store)] == ["t1", "t2", "t3"]
    progress = job(store)["progress"]
    assert (progress if isinstance(progress, dict) else json.loads(progress))["listing"][
        "cursor"
    ] == "4"


async def test_unstorable_page_ends_the_listing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    cursors: list[str | None] = []

    def handler(request: httpx.Request) -> httpx.Response:
        if not request.url.path.endswith("/tasks"):
            return batch_of_one(request, {"total": 9, "completed": 9})
        cursors.append(request.url.params.get("last_key"))
        page = {"tasks": [run_named(f"t{len(cursors)}")]}
        more = {"last_key": str(len(cursors) + 1), "has_more": True}
        return httpx.Response(200, json={**page, "pagination": more})

    def refuse(*_args: Any, **_more: Any) -> Stored:
        raise CannotStore("no")

    monkeypatch.setattr(store.results, "store_rows", refuse)
    announce(store, "batch_1")
    with pytest.raises(CannotStore):
        await fetch(store, a_source(), client=answering(handler))
    assert cursors == [None, "2"]


@pytest.mark.parametrize("odd", ["9" * 5_000, "[" * 1_200 + "]" * 1_200])
async def test_unparsable_number_spares_its_page(store: Store, odd: str) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        answer = batch_of_one(request, {"total": 1, "completed": 1}, output="odd")
        return httpx.Response(200, text=answer.text.replace('"odd"', odd))

    announce(store, "batch_1")
    assert await fetch(store, a_source(), client=answering(handler)) == "1 of 1 results stored"
    (row,) = stored(store)
    assert (row["error"], row["output"][:2]) == (None, f'"{odd[0]}' if odd[0] == "9" else odd[:2])


async def test_failing_listing_asks_each_run(
    store: Store,
) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/tasks"):
            return httpx.Response(500)
        counts = {"total": 1, "completed": 1}
        return a_run(request) if "/t1/" in request.url.path else batch_of_one(request, counts)

    store.batches.register("valyu", "batch_1", endpoint_id=None)
    store.batches.add_runs("valyu", "batch_1", [SubmittedRun("t1", None, {"query": "q"})])
    sql(store, "DELETE FROM jobs")
    announce(store, "batch_1")
    lease = claim(store)
    for lease.failures in range(LISTED_IN_VAIN_AT_ALL):
        with pytest.raises(Unavailable, match="500"):
            await fetch(store, a_source(), lease=lease, client=answering(handler))
        assert stored(store) == []
    lease.failures = LISTED_IN_VAIN_AT_ALL
    sentence = await fetch(store, a_source(), lease=lease, client=answering(handler))
    assert sentence == "1 of 1 results stored"


async def test_impossible_cursor_is_a_refused_one(store: Store) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        if not request.url.path.endswith("/tasks"):
            return batch_of_one(request, {"total": 2, "completed": 2})
        pagination = {"last_key": "k" * 70_000, "has_more": True}
        page = {"batch_id": "batch_1", "tasks": [run_named("t1")], "pagination": pagination}
        return httpx.Response(200, json=page)

    announce(store, "batch_1")
    with pytest.raises(Unavailable, match="refused again and again"):
        await fetch(store, a_source(), client=answering(handler))
    assert [row["run_id"] for row in stored(store)] == ["t1"]


async def test_a_giant_result_is_stored_whole(store: Store, sender: SandboxServer) -> None:
    sender.change(output_bytes=5_000_000)
    batch_id, _ = a_batch(sender, 1)
    announce(store, batch_id)
    await fetch(store, a_source(sender.api_url))
    assert len(json.loads(stored(store)[0]["output"])) == 5_000_000


async def test_non_finite_numbers_keep_the_result(store: Store) -> None:
    text = '{"deepresearch_id": "t1", "status": "completed", "output": [NaN, 1], "cost": Infinity}'
    client = answering(lambda _: httpx.Response(200, text=text))
    announce(store, "t1", kind="task")
    await fetch(store, a_source(), client=client)
    assert (stored(store)[0]["output"], stored(store)[0]["cost"]) == ("[null, 1]", None)


@pytest.mark.parametrize("answer", [{}, {"batch_id": "batch_2"}, [], {"batch": 5}, {"batch_id": 1}])
async def test_foreign_answer_is_refused(store: Store, answer: Any) -> None:
    announce(store, "batch_1")
    with pytest.raises(Unavailable, match="not about batch_1"):
        await fetch(store, a_source(), client=answering(lambda _: httpx.Response(200, json=answer)))


async def test_page_of_another_batch_is_unstored(store: Store) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        answer = json.loads(batch_of_one(request, {}).content)
        other = {**answer, "batch_id": "batch_2"} if "tasks" in answer else answer
        return httpx.Response(200, json=other)

    announce(store, "batch_1")
    with pytest.raises(Unavailable, match="not of batch_1"):
        await fetch(store, a_source(), client=answering(handler))
    assert stored(store) == []


async def test_listed_task_of_other_batch_unstored(store: Store) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        return batch_of_one(request, {"total": 1, "completed": 1}, batch_id="batch_2")

    announce(store, "batch_1")
    with pytest.raises(NotReady, match="0 of 1 results stored"):
        await fetch(store, a_source(), client=answering(handler))
    assert sql(store, "SELECT * FROM runs") == []


# --- outputs that come late -----------------------------------------------------------------------


def without_output(minutes: float | None) -> Any:
    """A run that the sender says completed so many minutes ago, without an output."""
    at = None if minutes is None else datetime.now(UTC) - timedelta(minutes=minutes)
    shown = {"output": None, "completed_at": at and at.isoformat()}

    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/status"):
            run = {"deepresearch_id": "t1", "status": "completed", "batch_id": "batch_1"}
            return httpx.Response(200, json={**run, **shown})
        return batch_of_one(request, {"total": 1, "completed": 1}, **shown)

    return answering(handler)


@pytest.mark.parametrize(
    ("since_job", "since_end", "believed"),
    [(14, 60, False), (60, 14, False), (16, 16, True), (60, None, False)],
)
@pytest.mark.parametrize("subject", ["t1", "batch_1"])
async def test_missing_output_believed_after_15_minutes(
    store: Store, since_job: float, since_end: float | None, believed: bool, subject: str
) -> None:
    announce(store, subject, kind="task" if subject == "t1" else "batch")
    make_old(store, since_job)
    sentence = "its output is not there" if subject == "t1" else "0 of 1 results stored"
    lease = claim(store)
    for look in range(1, FEWEST_LOOKS + 1):  # a clock that jumps ahead makes none of them
        is_believed = believed and look == FEWEST_LOOKS
        with contextlib.nullcontext() if is_believed else pytest.raises(NotReady, match=sentence):
            await fetch(store, a_source(), lease=lease, client=without_output(since_end))
        results = [(row["status"], row["output"]) for row in stored(store)]
        assert results == [("completed", None)] * is_believed


@pytest.mark.parametrize(("minutes", "believed"), [(14, False), (16, True)])
@pytest.mark.parametrize("subject", ["t1", "batch_1"])
async def test_missing_stamp_counts_from_first_look(
    store: Store, minutes: float, believed: bool, subject: str
) -> None:
    announce(store, subject, kind="task" if subject == "t1" else "batch")
    make_old(store, 24 * 60)
    lease = claim(store)
    with pytest.raises(NotReady):
        await fetch(store, a_source(), lease=lease, client=without_output(None))
    ((run_id, (seen, looks)),) = json.loads(job(store)["progress"])[SEEN_WITHOUT_OUTPUT].items()
    first = datetime.fromisoformat(seen)
    assert datetime.now(UTC) - first < timedelta(minutes=1)
    assert (run_id, looks) == ("t1", 1)
    first -= timedelta(minutes=minutes)
    lease.progress[SEEN_WITHOUT_OUTPUT] = {"t1": (first.isoformat(), FEWEST_LOOKS - 1)}
    with contextlib.nullcontext() if believed else pytest.raises(NotReady):
        await fetch(store, a_source(), lease=lease, client=without_output(None))
    assert [(row["status"], row["output"]) for row in stored(store)] == [
        ("completed", None)
    ] * believed


async def test_arrived_output_is_waited_no_more(store: Store) -> None:
    announce(store, "t1", kind="task")
    lease = claim(store)
    with pytest.raises(NotReady):
        await fetch(store, a_source(), lease=lease, client=without_output(None))
    run = {"deepresearch_id": "t1", "status": "completed", "output": "late"}
    there = answering(lambda _: httpx.Response(200, json=run))
    assert await fetch(store, a_source(), lease=lease, client=there) == "run completed"
    assert [row["output"] for row in stored(store)] == ['"late"']
    assert lease.progress[SEEN_WITHOUT_OUTPUT] == {}
