"""Calls that create something are not made twice, and what is said only once is not lost."""

from collections.abc import Callable

import httpx
import pytest

from receiver.errors import (
    FetchError,
    Missing,
    NotDone,
    NotReady,
    RateLimited,
    Refused,
    SourceRefused,
    Unavailable,
    UsageError,
)
from receiver.providers.model import NewRun, Request
from receiver.providers.parallel.provider import Parallel
from receiver.sender_api.calls import Calls, NotReached
from receiver.sender_api.rate_limit import LocalRateLimiter
from receiver.submissions.retries import RETRIES, failed, keep_trying, may_have_acted, with_retries
from storage import CannotStore, NotFound
from tests.receiver.parallel_senders import parallel
from tests.receiver.working import Clock, a_source, answering

CREATE = Request("POST", "/things", json={})


async def called(
    *statuses: int, retry_after: str = "0", clock: Clock | None = None
) -> tuple[int, FetchError | None]:
    """How often a sender was called that answers so in turn, the last for ever; and the error."""
    left, clock = list(statuses), clock or Clock()
    limiter = LocalRateLimiter(10_000.0, clock=clock, sleep=clock.sleep)
    calls = 0

    def handler(_: httpx.Request) -> httpx.Response:
        nonlocal calls
        calls += 1
        status = left.pop(0) if len(left) > 1 else left[0]
        return httpx.Response(status, json={}, headers={"retry-after": retry_after})

    async with answering(handler) as wire:
        try:
            calls_of = Calls(a_source(), wire, rate_limiter=limiter)
            await with_retries(calls_of, CREATE, sleep=clock.sleep)
        except FetchError as error:
            return calls, error
    return calls, None


async def test_rate_limit_is_waited_out_boundedly() -> None:
    assert await called(429, 429, 200) == (3, None)
    calls, error = await called(429)
    assert (calls, type(error)) == (RETRIES + 1, RateLimited)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 409, 500, 502, 503])
async def test_nothing_else_is_repeated(status: int) -> None:
    calls, error = await called(status, 200)
    assert (calls, error is None) == (1, False)


async def test_wait_lasts_as_sender_says() -> None:
    clock = Clock()
    assert await called(429, 200, retry_after="30", clock=clock) == (2, None)
    assert clock.now == pytest.approx(30)


async def test_a_wait_is_a_minute_at_most() -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    clock = Clock()
    limiter = LocalRateLimiter(10_000.0, clock=clock, sleep=clock.sleep)
    limited = httpx.Response(429, json={}, headers={"retry-after": "600"})
    async with answering(lambda _: limited) as wire:
        with pytest.raises(RateLimited):
            await with_retries(Calls(a_source(), wire, rate_limiter=limiter), CREATE, sleep=sleep)
    assert waits == [60.0] * RETRIES


@pytest.mark.parametrize(
    ("error", "acted"),
    [
        (Unavailable("500"), True),
        (NotReached("refused"), False),
        (Refused("400"), False),
        (Missing("404"), False),
        (NotReady("409"), False),
        (RateLimited("429"), False),
        (SourceRefused("401"), False),
    ],
)
def test_only_missing_answers_leave_doubt(error: Exception, acted: bool) -> None:
    assert may_have_acted(error) is acted


async def test_sender_timeout_leaves_doubt() -> None:
    run = Parallel().create_run(NewRun({}, {}), webhook_url=None)
    async with answering(lambda _: httpx.Response(408, json={"error": "timeout"})) as wire:
        with pytest.raises(Unavailable) as raised:
            await with_retries(Calls(parallel(), wire), run)
    assert may_have_acted(raised.value)


def failing(times: int, error: Exception) -> Callable[[], int]:
    """Something that fails so many times, and then says how often it was tried."""
    tries = 0

    def write() -> int:
        nonlocal tries
        tries += 1
        if tries <= times:
            raise error
        return tries

    return write


async def test_write_repeats_until_database_accepts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("receiver.submissions.retries.STORE_RETRY_SECONDS", 0.01)
    assert await keep_trying(failing(5, CannotStore("locked")), seconds=10) == 6


async def test_impossible_write_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("receiver.submissions.retries.STORE_RETRY_SECONDS", 0.01)
    with pytest.raises(CannotStore, match="locked"):
        await keep_trying(failing(10_000, CannotStore("locked")), seconds=0.1)


@pytest.mark.parametrize("error", [NotFound("gone"), ValueError("bug")])
async def test_wrong_write_is_not_repeated(error: Exception) -> None:
    with pytest.raises(type(error)):
        await keep_trying(failing(1, error), seconds=10)


async def test_missing_key_calls_nobody() -> None:
    async with answering(lambda _: httpx.Response(200)) as wire:
        assert type(failed(Calls(a_source(api_key=None), wire), "No.")) is UsageError
        assert type(failed(Calls(a_source(), wire), "No.")) is NotDone
