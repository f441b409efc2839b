"""A refused request is let in once it proves genuine: by the intake's rules, in one transaction."""

import time
from collections.abc import Callable
from typing import Any

import pytest

import storage
from receiver.intake.rejected import Rejected, shown_headers
from receiver.intake.verification import kept_headers
from receiver.signatures.diagnosis import Diagnosis
from receiver.sources import configured
from storage import CannotStore, NotFound, Store, UnverifiedDelivery
from storage.database import now
from tests.receiver.conftest import (
    BATCH,
    OTHER_BATCH,
    OTHER_SECRET,
    SECRET,
    Taking,
    add_endpoint,
    batch_body,
    broken,
    events,
    fetches,
    locked,
    settings,
    signed,
)

BODY = batch_body()


def refused(store: Store, endpoint_id: str | None, body: bytes = BODY, **other: Any) -> int:
    """Keep a request as the intake does; returns its id."""
    at = other.pop("at", time.time())
    headers = other.pop("headers", None) or signed(body, secret=other.pop("secret", SECRET), at=at)
    values = {"source": "valyu", "reason": "mismatch", "detail": "no key fits", **other}
    text = kept_headers(headers, configured(settings())["valyu"])
    store.quarantine.keep(
        UnverifiedDelivery(endpoint_id=endpoint_id, headers=text, body=body, **values)
    )
    return store.quarantine.ids()[-1]


def rejected(store: Store, **source: Any) -> Rejected:
    return Rejected(store, configured(settings(**source)))


# Letting in.


def test_now_genuine_request_is_accepted(store: Store) -> None:
    endpoint_id = add_endpoint(store, secret=OTHER_SECRET)
    kept = refused(store, endpoint_id)
    assert rejected(store).retry(kept).outcome == "no signature fits any of 1 keys"
    assert (events(store), store.quarantine.ids()) == ([], [kept])
    store.endpoints.set_secret(endpoint_id, SECRET)
    assert rejected(store).retry(kept).outcome == "accepted"
    assert fetches(store) == [("batch", BATCH)]
    assert store.quarantine.ids() == []
    with pytest.raises(NotFound, match=f"no refused request {kept}"):
        rejected(store).retry(kept)


async def test_retried_event_equals_the_intake_s(store: Store, taking: Taking) -> None:
    endpoint_id = add_endpoint(store)
    kept = refused(store, endpoint_id)
    assert (await taking.deliver(endpoint_id, BODY)).outcome == "accepted"
    assert rejected(store).retry(kept).outcome == "duplicate"
    (event,) = events(store)
    assert (event["deliveries"][0]["copies"], len(event["jobs"])) == (1, 1)


def test_foreign_resource_is_buried_on_retry(store: Store) -> None:
    kept = refused(store, add_endpoint(store), batch_body(OTHER_BATCH))
    assert rejected(store).retry(kept).outcome == "accepted"
    assert (fetches(store), len(store.jobs.list_dead())) == ([], 1)


def test_tolerance_is_that_of_receipt(store: Store) -> None:
    endpoint_id = add_endpoint(store)
    at = time.time() - 400_000
    received = storage.now().fromtimestamp(at + 5, tz=now().tzinfo)
    kept = refused(store, endpoint_id, at=at, received_at=received)
    assert rejected(store).retry(kept).is_in
    stale = refused(store, endpoint_id, at=at, received_at=now())
    assert "authentic, but signed" in rejected(store).retry(stale).outcome
    assert rejected(store, tolerance=500_000).retry(stale).is_in


def test_ended_secret_lets_nothing_in(store: Store) -> None:
    endpoint_id = add_endpoint(store)
    store.endpoints.rotate_secret(endpoint_id, OTHER_SECRET, old_until=now())
    kept = refused(store, endpoint_id)
    assert not rejected(store).retry(kept).is_in
    _, diagnosis = rejected(store).explain(kept)
    assert isinstance(diagnosis, Diagnosis)
    assert "this endpoint's secret (ended 20" in diagnosis.advice


def test_account_secret_lets_account_delivery_in(store: Store) -> None:
    kept = refused(store, None)
    assert not rejected(store).retry(kept).is_in
    assert rejected(store, signing_secrets=[SECRET]).retry(kept).is_in
    assert fetches(store) == [("batch", BATCH)]


def test_pending_endpoint_accepts_account_signature(store: Store) -> None:
    kept = refused(store, add_endpoint(store, secret=None))
    assert "resultsink endpoint secret" in rejected(store).retry(kept).outcome
    assert rejected(store, signing_secrets=[SECRET]).retry(kept).is_in


def test_body_lookup_works_as_in_intake(store: Store) -> None:
    endpoint_id = add_endpoint(store)
    kept = refused(store, None)
    assert rejected(store, lookup_by_body=True).retry(kept).is_in
    assert events(store)[0]["endpoint_id"] == endpoint_id


# Staying out.


def closed(store: Store) -> int:
    endpoint_id = add_endpoint(store)
    store.endpoints.close(endpoint_id)
    return refused(store, endpoint_id)


def foreign(store: Store) -> int:
    return refused(store, store.endpoints.add("elsewhere", "batch"))


STAYS: dict[str, tuple[Callable[[Store], int], str]] = {
    "closed": (closed, "is closed"),
    "unknown": (lambda store: refused(store, "A" * 22), "is unknown"),
    "of another source": (foreign, "is unknown"),
    "of no source": (lambda store: refused(store, None, source="gone"), "not in the settings"),
    "cut": (lambda store: refused(store, add_endpoint(store), b"x" * 70_000), "cut at 64 kB"),
}


@pytest.mark.parametrize("case", STAYS)
def test_still_refused_stays_with_reason(store: Store, case: str) -> None:
    make, reason = STAYS[case]
    kept = make(store)
    retried = rejected(store).retry(kept)
    assert not retried.is_in
    assert reason in retried.outcome
    assert store.quarantine.ids() == [kept]
    _, diagnosis = rejected(store).explain(kept)
    said = diagnosis if isinstance(diagnosis, str) else diagnosis.advice
    assert reason in said


def test_token_request_stays_for_lack_of_token(store: Store) -> None:
    headers = [(b"authorization", f"Bearer {SECRET}".encode())]
    kept = refused(store, add_endpoint(store), headers=headers)
    retried = rejected(store, signing={"scheme": "bearer"}).retry(kept)
    assert not retried.is_in
    assert "authorization was not kept" in retried.outcome


def test_misfit_stored_secret_is_one_sentence(store: Store) -> None:
    kept = refused(store, add_endpoint(store, secret="no-hex-at-all-no-hex"))  # noqa: S106
    assert "can be used" in rejected(store, signing={"readings": "hex"}).retry(kept).outcome


# Crashes.


@pytest.mark.parametrize("table", ["jobs", "events", "quarantine"])
def test_all_of_it_happens_or_nothing(store: Store, table: str) -> None:
    kept = refused(store, add_endpoint(store))
    delivery = rejected(store)._verified(store.quarantine.show(kept))
    with broken(store, table), pytest.raises(CannotStore):
        store.quarantine.admit(kept, delivery)
    assert (events(store), store.quarantine.ids()) == ([], [kept])
    assert store.quarantine.admit(kept, delivery) == "accepted"


def test_concurrent_retries_accept_once(store: Store) -> None:
    kept = refused(store, add_endpoint(store))
    delivery = rejected(store)._verified(store.quarantine.show(kept))
    assert store.quarantine.admit(kept, delivery) == "accepted"
    with pytest.raises(NotFound):
        store.quarantine.admit(kept, delivery)
    (event,) = events(store)
    assert event["deliveries"][0]["copies"] == 0


@pytest.mark.usefixtures("short_locks")
def test_locked_database_loses_no_request(store: Store) -> None:
    kept = refused(store, add_endpoint(store))
    with locked(store), pytest.raises(CannotStore):
        rejected(store).retry(kept)
    assert rejected(store).retry(kept).is_in


# Looking.


def test_other_endpoint_s_secret_is_named(store: Store) -> None:
    other = add_endpoint(store, OTHER_BATCH, secret=OTHER_SECRET)
    kept = refused(store, add_endpoint(store), secret=OTHER_SECRET)
    row, diagnosis = rejected(store).explain(kept)
    assert isinstance(diagnosis, Diagnosis)
    assert diagnosis.advice.startswith(f"It is signed with endpoint {other}")
    assert row["body"] == BODY


def test_credential_headers_are_not_shown() -> None:
    kept = "host: x\nx-webhook-secret: hunter2\nx-token: hunter2\nx-signature: abc\n"
    assert shown_headers(kept) == [
        ("host", "x"),
        ("x-webhook-secret", "[hidden]"),
        ("x-token", "[hidden]"),
        ("x-signature", "abc"),
    ]


async def test_explanation_uses_the_receipt_time(store: Store, taking: Taking) -> None:
    endpoint_id = add_endpoint(store)
    taking.now -= 3600
    await taking.deliver(endpoint_id, BODY, secret=OTHER_SECRET)
    await taking.refusal()
    row, diagnosis = rejected(store).explain(store.quarantine.ids()[0])
    assert isinstance(diagnosis, Diagnosis)
    assert diagnosis.skew is not None
    assert abs(diagnosis.skew) <= 1
    assert abs(row["received_at"].timestamp() - taking.now) < 1
