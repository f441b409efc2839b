"""Streamed listings: stored in parts as they come, gone on with where they broke off, bounded."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx
import pytest

from receiver.errors import FetchError, NotReady, Unavailable
from receiver.work.fetch.listing_progress import MAX_RESTARTS
from storage import Lease, Store, SubmittedRun
from tests.processes import DEADLINE
from tests.receiver.parallel_senders import GROUP, GroupSender, events, parallel
from tests.receiver.working import (
    announce,
    answering,
    claim,
    fetch,
    job,
    ledger,
    sql,
    stored,
    taken_over,
)

# The wire decides what happens here, not SQL: one database is enough.
pytestmark = pytest.mark.sqlite

LISTS = f"/groups/{GROUP}/runs"
ERROR = {"type": "error", "error": {"ref_id": "x", "message": "out of breath"}}


def runs(count: int, status: str = "completed") -> dict[str, str]:
    return {f"r{number:03}": status for number in range(1, count + 1)}


class Streams(GroupSender):
    """A group whose streams are answered by these first, then as they should be."""

    def __init__(self, count: int, *streams: httpx.Response | Exception | Sequence[Any]) -> None:
        super().__init__(runs(count), self.instead)
        self.streams = list(streams)

    def instead(self, request: httpx.Request) -> httpx.Response | None:
        if not request.url.path.endswith("/runs") or not self.streams:
            return None
        answer = self.streams.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, httpx.Response) else dropped(answer)

    @property
    def listed(self) -> list[str]:
        """The calls that listed the group, by their cursors."""
        return [path.removeprefix(LISTS) for path in self.calls if path.startswith(LISTS)]


def dropped(items: Sequence[Any], error: Exception | None = None) -> httpx.Response:
    """A stream whose connection is lost behind these events."""

    async def body() -> AsyncIterator[bytes]:
        for item in items:
            yield f"data: {json.dumps(item)}\n\n".encode()
        raise error or httpx.ReadError("connection lost")

    return httpx.Response(200, content=body(), headers={"content-type": "text/event-stream"})


def held_open(items: Sequence[Any]) -> httpx.Response:
    """A stream that brings these events and then comments for ever."""

    async def body() -> AsyncIterator[bytes]:
        for item in items:
            yield f"data: {json.dumps(item)}\n\n".encode()
        while True:
            await asyncio.sleep(0.01)
            yield b": keep-alive\n\n"

    return httpx.Response(200, content=body(), headers={"content-type": "text/event-stream"})


async def brought(store: Store, sender: GroupSender, lease: Lease | None = None) -> str:
    if lease is None and not sql(store, "SELECT * FROM jobs"):
        announce(store, GROUP)
    return await fetch(store, parallel(), lease=lease, client=answering(sender))


async def test_group_comes_in_one_stream(store: Store) -> None:
    sender = Streams(3)
    assert await brought(store, sender) == "3 of 3 results stored"
    assert sender.calls == [f"/groups/{GROUP}", LISTS]
    assert [result["run_id"] for result in stored(store)] == list(sender.runs)
    (first, *_) = sql(store, "SELECT input, batch_id FROM runs ORDER BY run_id")
    assert first == {"input": '{"q": "r001"}', "batch_id": GROUP}
    assert ledger(store, GROUP).state == "complete"


async def test_stream_stored_in_parts_with_cursor(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("receiver.work.fetch.streams.PART_RUNS", 10)
    seen: list[tuple[int, str | None]] = []
    items = GroupSender(runs(25)).events()

    async def body() -> AsyncIterator[bytes]:
        for item in items:
            yield f"data: {json.dumps(item)}\n\n".encode()
            cursor = json.loads(job(store)["progress"]).get("listing", {}).get("cursor")
            seen.append((len(stored(store)), cursor))

    stream = httpx.Response(200, content=body(), headers={"content-type": "text/event-stream"})
    await brought(store, Streams(25, stream))
    assert (seen[8], seen[10], seen[20]) == ((0, None), (10, "10"), (20, "20"))
    assert len(stored(store)) == 25


async def test_large_outputs_make_smaller_parts(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("receiver.work.fetch.streams.PART_BYTES", 10)
    broken = dropped(GroupSender(runs(3)).events()[:2])
    announce(store, GROUP)
    lease = claim(store)
    with pytest.raises(FetchError):
        await brought(store, Streams(3, broken, httpx.ReadError("again")), lease)
    assert len(stored(store)) == 2


async def test_broken_stream_resumes_in_same_attempt(
    store: Store,
) -> None:
    items = GroupSender(runs(5)).events()
    sender = Streams(5, items[:2], [*items[2:4]])
    assert await brought(store, sender) == "5 of 5 results stored"
    assert sender.listed == ["", " behind 2", " behind 4"]


async def test_silent_stream_ends_and_resumes_later(
    store: Store,
) -> None:
    items = GroupSender(runs(5)).events()
    sender = Streams(5, items[:2], httpx.ReadError("down"))
    announce(store, GROUP)
    with pytest.raises(Unavailable, match="ReadError"):
        await brought(store, sender)
    taken_over(store)
    await brought(store, sender)
    assert sender.listed == ["", " behind 2", " behind 2"]
    assert ledger(store, GROUP).state == "complete"


@pytest.mark.parametrize("status", [400, 404, 422])
async def test_refused_cursor_restarts_stream(store: Store, status: int) -> None:
    items = GroupSender(runs(4)).events()
    refused = httpx.Response(status, json={"error": {"message": "no such event"}})
    sender = Streams(4, items[:2], refused)
    assert await brought(store, sender) == "4 of 4 results stored"
    assert sender.listed == ["", " behind 2", ""]


async def test_always_refused_cursors_end_attempt(store: Store) -> None:
    items = GroupSender(runs(4)).events()
    refused = httpx.Response(404, json={"error": {"message": "no such event"}})
    streams: list[Any] = [items[:1], refused] * (MAX_RESTARTS + 1)
    sender = Streams(4, *streams)
    with pytest.raises(Unavailable, match="refused again and again"):
        await brought(store, sender)
    assert len(sender.listed) == 2 * (MAX_RESTARTS + 1)


@pytest.mark.parametrize("odd", ["data: {half\n\n", "data: 5\n\n"])
async def test_unreadable_event_asks_run_alone(store: Store, odd: str) -> None:
    first, _, last = (f"data: {json.dumps(item)}\n\n" for item in GroupSender(runs(3)).events())
    text, kind = first + odd + last, {"content-type": "text/event-stream"}
    sender = Streams(3, httpx.Response(200, text=text, headers=kind))
    store.batches.check("valyu", GROUP)
    store.batches.add_runs("valyu", GROUP, [SubmittedRun("r002", None, {"q": "r002"})])
    assert await brought(store, sender) == "3 of 3 results stored"
    assert (sender.listed[0], sender.calls[-1]) == ("", "/runs/r002/result")


async def test_error_event_is_no_stream_end(store: Store) -> None:
    items = GroupSender(runs(3)).events()
    sender = Streams(3, [*items[:1], ERROR], [ERROR])
    with pytest.raises(Unavailable, match="out of breath"):
        await brought(store, sender)
    assert len(stored(store)) == 1  # what came before is good


async def test_other_events_move_the_cursor(store: Store) -> None:
    items = GroupSender(runs(2)).events()
    status = {"type": "task_group_status", "event_id": "9", "status": {}}
    sender = Streams(2, [items[0], status])
    with pytest.raises(NotReady, match="1 of 2"):
        await brought(store, sender)
    assert sender.listed == ["", " behind 9"]


@pytest.mark.parametrize("lies", [{"taskgroup_id": "tgrp_2"}, {"run_id": None}])
async def test_foreign_run_is_not_stored(store: Store, lies: dict[str, Any]) -> None:
    (item,) = GroupSender(runs(1)).events()
    other = {**item, "event_id": "8", "run": {**item["run"], **lies}}
    stream = httpx.Response(
        200, text=f"data: {json.dumps(other)}\n\n", headers={"content-type": "text/event-stream"}
    )
    announce(store, GROUP)
    with pytest.raises(NotReady, match="0 of 1 results stored"):
        await brought(store, Streams(1, stream))
    assert sql(store, "SELECT * FROM runs") == []


async def test_endless_stream_left_when_complete(store: Store) -> None:
    item = GroupSender(runs(1)).events()[0]
    read: list[int] = []

    async def body() -> AsyncIterator[bytes]:
        while True:
            read.append(len(read))
            yield f"data: {json.dumps(item)}\n\n".encode()
            assert len(read) < 5_000, "an endless stream is read for ever"

    stream = httpx.Response(200, content=body(), headers={"content-type": "text/event-stream"})
    assert await brought(store, Streams(1, stream)) == "1 of 1 results stored"


async def test_too_many_items_are_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("receiver.work.fetch.streams.MAX_STREAMED", 50)
    nothing = {"type": "task_group_status", "status": {}}
    with pytest.raises(Unavailable, match="more than 50 items"):
        await brought(store, Streams(1, dropped([nothing] * 60)))


@pytest.mark.parametrize("kind", ["text/html", "application/json", ""])
async def test_non_stream_is_not_empty_stream(store: Store, kind: str) -> None:
    page = httpx.Response(200, content=b"<html></html>", headers={"content-type": kind})
    with pytest.raises(Unavailable, match="no event stream"):
        await brought(store, Streams(1, page))


async def test_later_listing_resumes_at_cursor(store: Store) -> None:
    sender = Streams(2)
    sender.runs["r003"] = "running"
    announce(store, GROUP)
    lease = claim(store)
    with pytest.raises(NotReady, match="2 of 3"):
        await brought(store, sender, lease)
    sender.runs["r003"] = "completed"
    assert await brought(store, sender, lease) == "3 of 3 results stored"
    assert sender.listed == ["", " behind 2"]


# --- streams that end too early, or not at all --------------------------------------------------


async def test_early_quiet_end_is_resumed(store: Store) -> None:
    items = GroupSender(runs(5)).events()
    sender = Streams(5, events(*items[:2]), events(*items[2:4]))
    assert await brought(store, sender) == "5 of 5 results stored"
    assert sender.listed == ["", " behind 2", " behind 4"]


async def test_repeated_early_end_ends_attempt(store: Store) -> None:
    items = GroupSender(runs(5)).events()
    sender = Streams(5, events(*items[:2]), events())
    with pytest.raises(NotReady, match="2 of 5"):
        await brought(store, sender)
    assert sender.listed == ["", " behind 2"]


async def test_known_runs_end_the_stream(store: Store) -> None:
    (item, *_) = GroupSender(runs(2)).events()
    again = [events({**item, "event_id": str(number)}) for number in range(1, 20)]
    sender = Streams(2, *again)
    with pytest.raises(NotReady, match="1 of 2"):
        await brought(store, sender)
    assert sender.listed == ["", " behind 1"]


async def test_promised_runs_stored_despite_open_stream(
    store: Store,
) -> None:
    sender = Streams(5, held_open(GroupSender(runs(5)).events()))
    async with asyncio.timeout(DEADLINE):
        assert await brought(store, sender) == "5 of 5 results stored"
    assert sender.listed == [""]


async def test_comment_only_stream_is_ended(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("receiver.work.fetch.streams.ITEM_SECONDS", 0.3)
    sender = Streams(5, held_open(GroupSender(runs(5)).events()[:2]))
    async with asyncio.timeout(DEADLINE):
        assert await brought(store, sender) == "5 of 5 results stored"
    assert sender.listed == ["", " behind 2"]


async def test_attempt_ends_when_streams_bring_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("receiver.work.fetch.streams.ITEM_SECONDS", 0.1)
    with pytest.raises(Unavailable, match="the stream brought nothing for"):
        async with asyncio.timeout(DEADLINE):
            await brought(store, Streams(5, held_open([])))
