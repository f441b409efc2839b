"""Refused requests are kept for the operator, and never more than the bounds allow."""

from datetime import timedelta
from typing import Any

import pytest

from storage import Store, UnverifiedDelivery, quarantine
from storage.database import Database
from storage.models import Quarantined
from storage.quarantine import MAX_AGE, MAX_BODY_BYTES
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


def kept(database: Database) -> list[bytes]:
    return [row.body for row in rows(database, Quarantined)]


def test_a_refused_request_is_kept_with_its_reason(store: Store) -> None:
    store.quarantine(refused(b"\xff\x00"))
    (row,) = rows(store.database, Quarantined)
    assert (row.source, row.endpoint_id, row.reason) == ("valyu", "e", "mismatch")
    assert (row.detail, row.headers, row.body) == ("no key fits", "webhook-id: 1\n", b"\xff\x00")


def test_a_large_body_is_cut_and_its_size_is_told(database: Database) -> None:
    keep(database, b"x" * (MAX_BODY_BYTES + 1))
    (row,) = rows(database, Quarantined)
    assert (len(row.body), row.body_bytes) == (MAX_BODY_BYTES, MAX_BODY_BYTES + 1)


def test_the_oldest_go_when_there_are_too_many(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarantine, "MAX_ROWS", 2)
    keep(database, b"1", b"2", b"3")
    assert kept(database) == [b"2", b"3"]


def test_the_oldest_go_when_they_are_too_large(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarantine, "MAX_BYTES", 5)
    keep(database, b"11", b"22", b"333")
    assert kept(database) == [b"22", b"333"]
    keep(database, b"4")
    assert kept(database) == [b"333", b"4"]


def test_a_large_one_does_not_let_older_small_ones_stay(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarantine, "MAX_BYTES", 5)
    keep(database, b"1", b"22222", b"3")
    assert kept(database) == [b"3"]


def test_the_bounds_hold_for_a_thousand(database: Database) -> None:
    keep(database, *[b"%d" % number for number in range(quarantine.MAX_ROWS + 5)])
    assert len(kept(database)) == quarantine.MAX_ROWS
    assert kept(database)[0] == b"5"


def test_the_old_go_when_another_comes(database: Database) -> None:
    keep(database, b"old")
    for body, age in ((b"in time", MAX_AGE), (b"late", MAX_AGE + timedelta(seconds=1))):
        later = refused(body)
        database.write(lambda c, one=later, age=age: quarantine.keep(c, one, now=NOON + age))
    assert kept(database) == [b"in time", b"late"]


def test_the_newest_are_listed_first_without_bodies(store: Store) -> None:
    keep(store.database, b"1", b"22")
    listed = store.list_rejected()
    assert [row["body_bytes"] for row in listed] == [2, 1]
    assert "body" not in listed[0]
    assert len(store.list_rejected(limit=1)) == 1
