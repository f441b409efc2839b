"""Calls to a sender's API: judged, rate-limited, bounded, and with the key going nowhere else."""

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest

from receiver.errors import (
    FetchError,
    Forbidden,
    Missing,
    NotReady,
    RateLimited,
    Refused,
    SourceRefused,
    Unavailable,
    Unreadable,
)
from receiver.json_values import leniently
from receiver.providers.model import Request
from receiver.sandbox import SandboxServer
from receiver.sender_api.calls import (
    LARGE_BYTES,
    MAX_ERROR_CHARACTERS,
    AnswerTooLarge,
    Calls,
    NotReached,
)
from receiver.sender_api.client_pool import Wire, clients_for
from receiver.sender_api.rate_limit import LocalRateLimiter
from receiver.sender_api.stream_parsers import (
    CsvRows,
    JsonDocuments,
    ServerSentEvents,
    StreamParser,
)
from receiver.sources import Source
from tests.processes import DEADLINE
from tests.receiver import working
from tests.receiver.parallel_senders import parallel_v0
from tests.receiver.working import a_source, answering

running_sender, sender = working.running_sender, working.sender

LIST = Request("GET", "/deepresearch/batches")
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
HTML = "<html><body>502 Bad Gateway</body></html>"


async def call(source: Source, client: Wire | None = None, request: Request = LIST) -> Any:
    async with client or clients_for() as wire:
        return await Calls(source, wire, clock=NOW.timestamp).call(request)


async def refused(*answer: Any, **more: Any) -> FetchError:
    """The error that an answer means."""
    client = answering(lambda _: httpx.Response(*answer, **more))
    with pytest.raises(FetchError) as raised:
        await call(a_source(), client)
    return raised.value


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Refused),
        (401, SourceRefused),
        (402, SourceRefused),
        (403, Forbidden),
        (404, Missing),
        (408, Unavailable),
        (409, NotReady),
        (429, RateLimited),
        (500, Unavailable),
        (503, Unavailable),
        (302, Unavailable),
    ],
)
async def test_status_decides_and_keeps_sender_s_words(status: int, kind: type[FetchError]) -> None:
    error = await refused(status, json={"error": "because of this"})
    assert type(error) is kind
    assert str(error) == f"the sender answered {status}: because of this"


@pytest.mark.parametrize("value", ["\ud800", float("nan"), float("inf")])
async def test_value_that_is_no_json_is_not_sent(value: object) -> None:
    client = answering(lambda _: pytest.fail("it was sent"))
    with pytest.raises(Refused, match="cannot be sent as JSON"):
        await call(a_source(), client, Request("POST", "/x", json={"a": value}))


@pytest.mark.parametrize(
    ("status", "kind"), [(200, Unreadable), (400, Unavailable), (502, Unavailable)]
)
@pytest.mark.parametrize("body", [HTML, "", '{"half": ', "\udcff", "[" * 100_000])
async def test_non_json_object_is_no_answer(status: int, kind: type[FetchError], body: str) -> None:
    error = await refused(status, content=body.encode("utf-8", "surrogateescape"))
    assert type(error) is kind


@pytest.mark.parametrize(
    ("headers", "body", "seconds"),
    [
        ({"retry-after": "7"}, {}, 7),
        ({"retry-after": format_datetime(NOW + timedelta(seconds=9), usegmt=True)}, {}, 9),
        ({}, {"retry_after": 11}, 11),
        ({}, {}, None),
        ({"retry-after": "soon"}, {"retry_after": "later"}, None),
    ],
)
async def test_retry_after_in_seconds_date_or_body(
    headers: dict[str, str], body: dict[str, Any], seconds: float | None
) -> None:
    error = await refused(429, json=body, headers=headers)
    assert isinstance(error, RateLimited)
    assert error.retry_after == seconds


@pytest.mark.parametrize("kind", ["reset", "lost", "cut", "html"])
async def test_interrupted_answer_is_unavailable(sender: SandboxServer, kind: str) -> None:
    sender.add_fault("GET /deepresearch/batches", kind=kind)
    with pytest.raises(Unavailable):
        await call(a_source(sender.api_url))
    assert await call(a_source(sender.api_url)) == []


async def test_silent_sender_is_unavailable(
    sender: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("receiver.sender_api.calls.CALL_SECONDS", 0.1)
    sender.add_fault("GET /deepresearch/batches", kind="hang")
    with pytest.raises(Unavailable, match="ReadTimeout"):
        await call(a_source(sender.api_url))


async def test_unreachable_sender_has_done_nothing() -> None:
    with pytest.raises(NotReached):
        await call(a_source("http://127.0.0.1:1/v1"))


async def test_impossible_url_blames_the_resource() -> None:
    async with clients_for() as wire:
        with pytest.raises(Refused, match="makes no URL"):
            await Calls(a_source(), wire).call(Request("GET", "/" + "x" * 70_000))


async def test_missing_key_names_the_variable() -> None:
    with pytest.raises(SourceRefused, match="RESULTSINK_SOURCES__VALYU__API_KEY"):
        await call(a_source(api_key=None))


async def test_key_never_follows_a_redirect() -> None:
    requests: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(307, headers={"location": "https://elsewhere.test/"})

    with pytest.raises(Unavailable):
        await call(a_source(), answering(handler))
    assert [(request.url.host, request.headers["x-api-key"]) for request in requests] == [
        ("sender.test", "val_test")
    ]


async def test_error_of_the_wire_stands_within_a_sentence() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        raise httpx.RemoteProtocolError("Server disconnected.", request=request)

    with pytest.raises(FetchError, match=r"RemoteProtocolError Server disconnected$"):
        await call(a_source(), answering(handler))


async def test_errors_hide_the_key() -> None:
    for error in [await refused(401, json={}), await refused(500, json={})]:
        assert "val_test" not in f"{error!r} {error}"


@pytest.mark.parametrize("status", [200, 400, 401, 404, 500])
@pytest.mark.parametrize("where", ["json", "text", "error"])
async def test_echoed_key_is_not_quoted(status: int, where: str) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        words = f"Invalid API key {request.headers['x-api-key']}"
        if where == "error":
            raise httpx.RemoteProtocolError(words, request=request)
        if where == "text":
            return httpx.Response(status, text=words)
        return httpx.Response(status, json={"error": words} if status != 200 else words)

    with pytest.raises(FetchError) as raised:
        await call(a_source(), answering(handler))
    assert "val_test" not in f"{raised.value!r} {raised.value}"


@pytest.mark.parametrize("before", range(MAX_ERROR_CHARACTERS - 40, MAX_ERROR_CHARACTERS))
async def test_long_error_cut_without_key_remains(before: int) -> None:
    text = str(await refused(400, json={"error": "-" * before + "val_test" + "-" * 10**6}))
    assert len(text) == MAX_ERROR_CHARACTERS
    assert "v" not in text.removeprefix("the sender answered 400")


async def test_stream_errors_hide_the_key() -> None:
    body = 'data: {"type": "error"}\n\ndata: val_test\n\n'
    answer = httpx.Response(200, text=body, headers={"content-type": "text/event-stream"})

    async def read(wire: httpx.AsyncClient) -> None:
        async with Calls(a_source(), wire).stream(LIST, ServerSentEvents()) as items:
            async for item, _ in items:
                assert item == {"type": "error"}
                raise Unavailable("the stream says val_test")

    async with answering(lambda _: answer) as wire:
        with pytest.raises(Unavailable, match="the stream says <api_key>"):
            await read(wire)


async def test_refused_stream_errors_like_a_call() -> None:
    for status, kind in ((401, SourceRefused), (404, Missing), (302, Unavailable)):
        answer = httpx.Response(status, json={"error": "no"})
        async with answering(lambda _: answer) as wire:  # noqa: B023  it is used at once
            with pytest.raises(FetchError, match=f"answered {status}: no") as raised:
                async with Calls(a_source(), wire).stream(LIST, ServerSentEvents()):
                    raise AssertionError("there is nothing to read")
        assert type(raised.value) is kind


async def test_trickled_answer_has_total_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("receiver.sender_api.calls.TOTAL_SECONDS", 0.2)

    async def trickle() -> AsyncIterator[bytes]:
        while True:
            yield b" "
            await asyncio.sleep(0.02)  # much sooner than any single read would time out

    async with asyncio.timeout(DEADLINE):
        error = await refused(200, content=trickle())
    assert type(error) is Unavailable
    assert "not whole" in str(error)


@pytest.mark.parametrize("parser", [CsvRows, JsonDocuments, ServerSentEvents])
async def test_a_page_of_html_is_no_stream(parser: type[StreamParser]) -> None:
    page = httpx.Response(200, headers={"content-type": "text/html"}, content=b"a,b\n1,2\n")
    async with answering(lambda _: page) as wire:
        with pytest.raises(Unavailable, match=r"HTML|no event stream"):
            async with Calls(a_source(), wire).stream(LIST, parser()):
                raise AssertionError("it was taken for a stream")


async def test_an_endless_answer_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("receiver.sender_api.calls.MAX_ANSWER_BYTES", 1000)
    assert type(await refused(200, content=b" " * 1001)) is AnswerTooLarge


@pytest.mark.parametrize(("size", "is_large"), [(LARGE_BYTES - 100, False), (LARGE_BYTES, True)])
async def test_large_answer_parsed_without_blocking_others(
    monkeypatch: pytest.MonkeyPatch, size: int, is_large: bool
) -> None:
    parsed_by: list[tuple[bool, bool]] = []

    def parse(body: bytes, *, politely: bool) -> Any:
        parsed_by.append((threading.current_thread() is threading.main_thread(), politely))
        return leniently(body, politely=politely)

    monkeypatch.setattr("receiver.sender_api.calls.leniently", parse)
    body = json.dumps(["x" * size])
    assert await call(a_source(), answering(lambda _: httpx.Response(200, text=body))) == [
        "x" * size
    ]
    assert parsed_by == [(not is_large, is_large)]


async def test_large_stream_items_keep_their_order() -> None:
    parsed_by: list[tuple[bool, bool]] = []

    class Watched(ServerSentEvents):
        def parse(self, piece: bytes, *, politely: bool = False) -> list[Any]:
            parsed_by.append((threading.current_thread() is threading.main_thread(), politely))
            return super().parse(piece, politely=politely)

    sent = ["small", "x" * LARGE_BYTES, "last"]
    body = "".join(f"data: {json.dumps(item)}\n\n" for item in sent)
    answer = httpx.Response(200, text=body, headers={"content-type": "text/event-stream"})
    wire = answering(lambda _: answer)
    async with wire, Calls(a_source(), wire).stream(LIST, Watched()) as items:
        assert [item async for item, _ in items] == sent
    assert parsed_by == [(True, False), (False, True), (True, False)]


# --- a proxy --------------------------------------------------------------------------------------


@pytest.fixture
async def proxied(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[bytes]]:
    """The requests to the user's proxy, which refuses everything."""
    lines: list[bytes] = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines.append(await reader.readline())
        writer.write(b"HTTP/1.1 502 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.delenv(name.lower(), raising=False)
            monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        yield lines


async def test_loopback_bypasses_the_proxy(sender: SandboxServer, proxied: list[bytes]) -> None:
    port = sender.api_url.rpartition(":")[2]
    for host in ("127.0.0.1", "localhost"):
        assert await call(a_source(f"http://{host}:{port}")) == []
    far = a_source("http://127.8.0.1:1/v1")
    with pytest.raises(NotReached):
        await call(far, clients_for(far))
    assert proxied == []


async def test_remote_sender_uses_the_proxy(proxied: list[bytes]) -> None:
    with pytest.raises(NotReached):
        await call(far := a_source("https://sender.test/v1"), clients_for(far))
    assert proxied == [b"CONNECT sender.test:443 HTTP/1.1\r\n"]


# --- the rate limit ------------------------------------------------------------------------------


async def moments(per_second: float, calls: int, *answers: httpx.Response) -> list[float]:
    """When calls were made one after the other; `answers` come first, then empty lists."""
    now, found, left = [0.0], list[float](), list(answers)

    async def sleep(seconds: float) -> None:
        now[0] += seconds

    def handler(_: httpx.Request) -> httpx.Response:
        found.append(now[0])
        return left.pop(0) if left else httpx.Response(200, json=[])

    limiter = LocalRateLimiter(per_second, clock=lambda: now[0], sleep=sleep)
    async with answering(handler) as wire:
        made = Calls(a_source(), wire, rate_limiter=limiter)
        for _ in range(calls):
            with contextlib.suppress(RateLimited):
                await made.call(LIST)
    return found


async def test_calls_are_spread_over_seconds() -> None:
    assert await moments(50, 11) == pytest.approx([n / 50 for n in range(11)])


async def test_calls_after_a_429_are_spread_again() -> None:
    limited = httpx.Response(429, headers={"retry-after": "0.4"}, json={})
    assert await moments(50, 5, limited) == pytest.approx([0.0, 0.4, 0.42, 0.44, 0.46])


async def test_a_probe_repeats_no_call_that_changes_something() -> None:
    async with answering(lambda _: httpx.Response(200, json={})) as wire:
        made = Calls(parallel_v0(), wire)
        await made.call(Request("POST", "/tasks/runs", json={}))
        assert made.probe is None
        await made.call(LIST)
        await made.call(Request("POST", "/tasks/runs", json={}))
        assert made.probe == LIST


async def test_rate_limit_obeyed_for_an_hour() -> None:
    seconds = [0.0]
    limited = httpx.Response(429, headers={"retry-after": "86400"}, json={})
    answers = [limited, httpx.Response(200, json=[])]
    async with answering(lambda _: answers.pop(0)) as wire:
        made = Calls(a_source(), wire)
        made._rate_limiter = LocalRateLimiter(1.0, clock=lambda: seconds[0])
        with pytest.raises(RateLimited):
            await made.call(LIST)
        seconds[0] = 3599.0
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await made.call(LIST)
        seconds[0] = 3602.0  # the one that left had booked its second
        async with asyncio.timeout(DEADLINE):
            assert await made.call(LIST) == []
