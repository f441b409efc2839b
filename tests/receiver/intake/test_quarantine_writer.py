"""Refused requests are kept for the operator, slowly, within bounds, behind the answer's back."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import func, select
from sqlmodel import col

from receiver.intake import quarantine_writer
from receiver.intake.quarantine_writer import MAX_WAITING, ROWS_PER_SECOND, QuarantineWriter
from storage import Store, UnverifiedDelivery
from storage.models import Quarantined
from tests.receiver.conftest import (
    DEADLINE,
    OTHER_SECRET,
    Taking,
    add_endpoint,
    batch_body,
    broken,
    stuck,
    until,
)

KIB = 1024


def refused(number: int = 0, body: bytes = b"{}") -> UnverifiedDelivery:
    return UnverifiedDelivery("valyu", None, "mismatch", f"number {number}", "", body)


def kept(store: Store) -> list[str]:
    return [row["detail"] for row in reversed(store.quarantine.list_newest())]


@pytest.fixture
async def quarantine(store: Store) -> AsyncIterator[QuarantineWriter]:
    quarantine = QuarantineWriter(store)
    running = asyncio.create_task(quarantine.run())
    yield quarantine
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_refused_request_kept_with_reason(store: Store, quarantine: QuarantineWriter) -> None:
    quarantine.offer(refused())
    await until(store.quarantine.list_newest)
    (row,) = store.quarantine.list_newest()
    assert (row["source"], row["reason"], row["body_bytes"]) == ("valyu", "mismatch", 2)


async def test_flood_costs_few_rows_a_second(store: Store, quarantine: QuarantineWriter) -> None:
    began = time.monotonic()
    while (rows := len(store.quarantine.list_newest())) < 2 or time.monotonic() - began < 1:
        quarantine.offer(refused())
        await asyncio.sleep(0.001)
    assert rows <= ROWS_PER_SECOND * (time.monotonic() - began) + 1


async def test_queue_is_bounded_and_keeps_first(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarantine_writer, "ROWS_PER_SECOND", 1000)
    quarantine = QuarantineWriter(store)
    for number in range(MAX_WAITING * 2):
        quarantine.offer(refused(number))
    running = asyncio.create_task(quarantine.run())
    await until(lambda: len(kept(store)) == MAX_WAITING)
    await asyncio.sleep(0.05)
    running.cancel()
    assert kept(store) == [f"number {number}" for number in range(MAX_WAITING)]


async def test_what_waits_is_bounded_in_bytes(store: Store) -> None:
    quarantine = QuarantineWriter(store)  # nobody writes yet
    for _ in range(MAX_WAITING):
        quarantine.offer(refused(body=b"x" * 300 * KIB))
    assert sum(len(each.body) for each in quarantine._refused) < 1500 * KIB


async def test_body_is_cut_with_its_size(store: Store, quarantine: QuarantineWriter) -> None:
    quarantine.offer(refused(body=b"x" * 100 * KIB))
    await until(store.quarantine.list_newest)
    assert store.quarantine.list_newest()[0]["body_bytes"] == 100 * KIB
    with store.database.read() as connection:
        cut = connection.execute(select(func.length(col(Quarantined.body)))).scalar()
    assert cut == 64 * KIB


async def test_refusal_does_not_wait_for_disk(taking: Taking, store: Store) -> None:
    endpoint_id = add_endpoint(store)
    await taking.intake.find_or_read("valyu", endpoint_id)
    with stuck(store):
        async with asyncio.timeout(DEADLINE):
            outcome = await taking.deliver(endpoint_id, batch_body(), secret=OTHER_SECRET)
    assert outcome.outcome == "unauthorized"
    assert await taking.refusal() == "mismatch"


async def test_writer_survives_an_unavailable_database(
    store: Store, quarantine: QuarantineWriter
) -> None:
    with broken(store, "quarantine"):
        quarantine.offer(refused(1))
        quarantine.remember(1, "text")
        await asyncio.sleep(0.5)
    quarantine.offer(refused(2))
    await until(lambda: kept(store) == ["number 2"])


async def test_readings_noted_from_any_thread(store: Store, quarantine: QuarantineWriter) -> None:
    endpoint_id = add_endpoint(store)
    view = store.endpoints.find(endpoint_id)
    assert view is not None
    await asyncio.to_thread(quarantine.remember, view.secrets[0].id, "hex")

    def reading() -> str | None:
        view = store.endpoints.find(endpoint_id)
        return view.secrets[0].reading if view else None

    await until(lambda: reading() == "hex")


async def test_last_matched_reading_stays(store: Store, quarantine: QuarantineWriter) -> None:
    endpoint_id = add_endpoint(store)
    with stuck(store):
        quarantine.remember(1, "text")
        await until(lambda: not quarantine._wake.is_set())
        # it is being written, and another one matches meanwhile
        quarantine.remember(1, "hex")

    def reading() -> str | None:
        view = store.endpoints.find(endpoint_id)
        return view.secrets[0].reading if view else None

    await until(lambda: reading() == "hex")
