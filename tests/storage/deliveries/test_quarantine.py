"""Refused requests are kept for the operator, and never more than the bounds allow."""

from datetime import datetime, timedelta
from typing import Any

import pytest

import storage
from storage import NotFound, Store, UnverifiedDelivery
from storage.database import Database, insert
from storage.deliveries import quarantine
from storage.deliveries.quarantine import MAX_AGE, MAX_BODY_BYTES, OLD_AT_ONCE
from storage.models import Quarantined
from tests.storage.build import NOON, at, rows


def refused(body: bytes = b"{}", **other: Any) -> UnverifiedDelivery:
    values: dict[str, Any] = {
        "source": "valyu",
        "endpoint_id": "e",
        "reason": "mismatch",
        "detail": "no key fits",
        "headers": "webhook-id: 1\n",
        **other,
    }
    return UnverifiedDelivery(body=body, **values)


def keep(database: Database, *bodies: bytes) -> None:
    def work(connection: Any) -> None:
        for number, body in enumerate(bodies):
            quarantine.keep(connection, refused(body), now=at(number))

    database.write(work)


def keep_one(database: Database, one: UnverifiedDelivery, now: datetime) -> None:
    database.write(lambda c: quarantine.keep(c, one, now=now))


def kept(database: Database) -> list[bytes]:
    return [row.body for row in rows(database, Quarantined)]


def test_refused_request_kept_with_its_reason(store: Store) -> None:
    store.quarantine.keep(refused(b"\xff\x00"))
    (row,) = rows(store.database, Quarantined)
    assert (row.source, row.endpoint_id, row.reason) == ("valyu", "e", "mismatch")
    assert (row.detail, row.headers, row.body) == ("no key fits", "webhook-id: 1\n", b"\xff\x00")


def test_large_body_cut_with_its_size(database: Database) -> None:
    keep(database, b"x" * (MAX_BODY_BYTES + 1))
    (row,) = rows(database, Quarantined)
    assert (len(row.body), row.body_bytes) == (MAX_BODY_BYTES, MAX_BODY_BYTES + 1)


def test_oldest_rows_go_beyond_row_limit(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarantine, "MAX_ROWS", 2)
    keep(database, b"1", b"2", b"3")
    assert kept(database) == [b"2", b"3"]


def test_oldest_rows_go_beyond_byte_limit(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarantine, "MAX_BYTES", 5)
    keep(database, b"11", b"22", b"333")
    assert kept(database) == [b"22", b"333"]
    keep(database, b"4")
    assert kept(database) == [b"333", b"4"]


def test_large_row_does_not_spare_older_ones(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarantine, "MAX_BYTES", 5)
    keep(database, b"1", b"22222", b"3")
    assert kept(database) == [b"3"]


def test_a_thousand_are_kept(database: Database) -> None:
    keep(database, b"0")
    values = dict(rows(database, Quarantined)[0]._mapping)
    del values["id"]
    more = [{**values, "body": b"%d" % number} for number in range(2, 1001)]
    database.write(lambda c: c.execute(insert(Quarantined), more))
    assert len(kept(database)) == 1000
    keep(database, b"last")
    assert len(kept(database)) == 1000
    assert (kept(database)[0], kept(database)[-1]) == (b"2", b"last")


def test_the_old_go_when_another_comes(database: Database) -> None:
    keep(database, b"old")
    keep_one(database, refused(b"in time"), NOON + MAX_AGE)
    assert kept(database) == [b"old", b"in time"]
    keep_one(database, refused(b"late"), NOON + MAX_AGE + timedelta(seconds=1))
    assert kept(database) == [b"in time", b"late"]


def test_listed_newest_first_without_bodies(store: Store) -> None:
    keep(store.database, b"1", b"22")
    listed = store.quarantine.list_newest()
    assert [row["body_bytes"] for row in listed] == [2, 1]
    assert "body" not in listed[0]
    assert len(store.quarantine.list_newest(limit=1)) == 1


def test_many_old_rows_go_in_steps(database: Database) -> None:
    keep(database, *[b"old"] * (OLD_AT_ONCE + 1))
    for left in (2, 2, 3):
        keep_one(database, refused(b"new"), at(99) + MAX_AGE)
        assert len(kept(database)) == left
    assert set(kept(database)) == {b"new"}


def test_shown_whole_with_oldest_named_first(store: Store) -> None:
    keep(store.database, b"1", b"22")
    first, second = store.quarantine.ids()
    assert store.quarantine.show(first)["body"] == b"1"
    assert store.quarantine.show(second)["received_at"] == at(1)
    assert store.quarantine.ids(source="other") == []
    assert store.quarantine.ids(source="valyu") == [first, second]
    with pytest.raises(NotFound, match="no refused request 9: see `rejected list`"):
        store.quarantine.show(9)


def test_known_receipt_time_is_kept(store: Store) -> None:
    an_hour_ago = storage.now() - timedelta(hours=1)
    store.quarantine.keep(refused(received_at=an_hour_ago))
    (row,) = rows(store.database, Quarantined)
    assert row.received_at == an_hour_ago


def test_requests_past_retention_are_not_kept(store: Store) -> None:
    store.quarantine.keep(refused(received_at=NOON - 9 * MAX_AGE))
    assert store.quarantine.ids() == []
