"""Log lines about genuine deliveries: the first, a wrong clock, an old secret; each seldom."""

import io
import json
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
import structlog

from receiver.intake.target import ACCEPTED, DUPLICATE, UNAUTHORIZED
from receiver.telemetry import logs
from storage import Store
from storage.database import now
from tests.receiver.conftest import OTHER_SECRET, SECRET, Taking, add_endpoint, batch_body

Said = Callable[[], list[dict[str, Any]]]

OLDER = "signed with an older secret"


@pytest.fixture
def said() -> Iterator[Said]:
    """The lines since the last look that are not about a single delivery."""
    stream = io.StringIO()
    logs.configure(json=True, stream=stream)

    def read() -> list[dict[str, Any]]:
        logs.flush()
        lines = list(map(json.loads, stream.getvalue().splitlines()))
        stream.seek(0)
        stream.truncate()
        return [line for line in lines if line["event"] not in ("delivery", "delivery refused")]

    yield read
    structlog.reset_defaults()


async def test_first_genuine_delivery_is_logged(taking: Taking, store: Store, said: Said) -> None:
    endpoint_id = add_endpoint(store)
    assert await taking.deliver(endpoint_id, b"1", secret=OTHER_SECRET) == UNAUTHORIZED
    said()
    for body in (b"1", b"2"):
        assert await taking.deliver(endpoint_id, body, at=taking.now - 5) == ACCEPTED
    (line,) = said()
    assert (line["event"], line["level"]) == ("first genuine delivery of the source", "info")
    assert (line["source"], line["scheme"], line["reading"]) == ("valyu", "timestamp.body", "text")
    assert 5 <= line["skew"] <= 6


@pytest.mark.parametrize(("off", "lines"), [(50, 0), (70, 1), (-70, 1)])
async def test_clock_offset_is_warned_about_once(
    taking: Taking, store: Store, said: Said, off: float, lines: int
) -> None:
    endpoint_id = add_endpoint(store)
    for body in (b"1", b"2", b"3"):
        assert await taking.deliver(endpoint_id, body, at=taking.now - off) == ACCEPTED
    warned = [line for line in said() if line["level"] == "warning"]
    assert len(warned) == lines
    assert all(abs(line["skew"] - off) <= 1 for line in warned)


async def test_old_endpoint_secret_is_warned_about(
    taking: Taking, store: Store, said: Said
) -> None:
    endpoint_id = add_endpoint(store)
    until = now() + timedelta(hours=1)
    store.endpoints.rotate_secret(endpoint_id, OTHER_SECRET, old_until=until)
    taking.now = time.time() + 1
    assert await taking.deliver(endpoint_id, batch_body(), secret=OTHER_SECRET) == ACCEPTED
    assert [line["event"] for line in said()] == ["first genuine delivery of the source"]
    for _ in range(3):
        assert await taking.deliver(endpoint_id, batch_body(), secret=SECRET) == DUPLICATE
    (line,) = said()
    assert (line["event"], line["level"], line["endpoint"]) == (OLDER, "warning", endpoint_id)
    assert line["valid_until"] == until.isoformat()


async def test_old_account_secret_is_warned_about(store: Store, said: Said) -> None:
    endpoint_id = add_endpoint(store, secret=None)
    async with Taking(store, signing_secrets=[OTHER_SECRET, SECRET]) as taking:
        for target in (None, endpoint_id):
            body = batch_body(status="cancelled" if target else "completed")
            assert await taking.deliver(target, body, secret=OTHER_SECRET) == ACCEPTED
            assert len(said()) == (target is None)
        assert await taking.deliver(endpoint_id, batch_body(), secret=SECRET) == DUPLICATE
    (line,) = said()
    assert (line["event"].startswith(f"{OLDER} of the account"), line["place"]) == (True, 2)
