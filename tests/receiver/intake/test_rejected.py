"""What was refused is let in once it proves genuine: by the intake's rules, in one transaction."""

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


def test_what_is_genuine_by_now_is_let_in_and_leaves_the_quarantine(store: Store) -> None:
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


async def test_it_is_the_same_event_that_the_intake_would_have_made(
    store: Store, taking: Taking
) -> None:
    endpoint_id = add_endpoint(store)
    kept = refused(store, endpoint_id)
    assert (await taking.deliver(endpoint_id, BODY)).outcome == "accepted"
    assert rejected(store).retry(kept).outcome == "duplicate"
    (event,) = events(store)
    assert (event["deliveries"][0]["copies"], len(event["jobs"])) == (1, 1)


def test_what_names_another_resource_is_buried_as_ever(store: Store) -> None:
    kept = refused(store, add_endpoint(store), batch_body(OTHER_BATCH))
    assert rejected(store).retry(kept).outcome == "accepted"
    assert (fetches(store), len(store.jobs.list_dead())) == ([], 1)


def test_the_tolerance_is_that_of_its_receipt(store: Store) -> None:
    endpoint_id = add_endpoint(store)
    at = time.time() - 400_000
    received = storage.now().fromtimestamp(at + 5, tz=now().tzinfo)
    kept = refused(store, endpoint_id, at=at, received_at=received)
    assert rejected(store).retry(kept).is_in
    stale = refused(store, endpoint_id, at=at, received_at=now())
    assert "authentic, but signed" in rejected(store).retry(stale).outcome
    assert rejected(store, tolerance=500_000).retry(stale).is_in


def test_a_secret_that_has_ended_lets_nothing_in(store: Store) -> None:
    endpoint_id = add_endpoint(store)
    store.endpoints.rotate_secret(endpoint_id, OTHER_SECRET, old_until=now())
    kept = refused(store, endpoint_id)
    assert not rejected(store).retry(kept).is_in
    _, diagnosis = rejected(store).explain(kept)
    assert isinstance(diagnosis, Diagnosis)
    assert "this endpoint's secret (ended 20" in diagnosis.advice


def test_a_delivery_to_the_account_is_let_in_by_the_accounts_secret(store: Store) -> None:
    kept = refused(store, None)
    assert not rejected(store).retry(kept).is_in
    assert rejected(store, signing_secrets=[SECRET]).retry(kept).is_in
    assert fetches(store) == [("batch", BATCH)]


def test_a_pending_endpoint_takes_what_the_account_signed(store: Store) -> None:
    kept = refused(store, add_endpoint(store, secret=None))
    assert "resultsink endpoint secret" in rejected(store).retry(kept).outcome
    assert rejected(store, signing_secrets=[SECRET]).retry(kept).is_in


def test_looking_up_by_the_body_finds_the_endpoint_as_the_intake_does(store: Store) -> None:
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
def test_what_cannot_be_let_in_stays_and_says_why(store: Store, case: str) -> None:
    make, reason = STAYS[case]
    kept = make(store)
    retried = rejected(store).retry(kept)
    assert not retried.is_in
    assert reason in retried.outcome
    assert store.quarantine.ids() == [kept]
    _, diagnosis = rejected(store).explain(kept)
    said = diagnosis if isinstance(diagnosis, str) else diagnosis.advice
    assert reason in said


def test_a_token_was_not_kept_so_that_its_request_stays(store: Store) -> None:
    headers = [(b"authorization", f"Bearer {SECRET}".encode())]
    kept = refused(store, add_endpoint(store), headers=headers)
    retried = rejected(store, signing={"scheme": "bearer"}).retry(kept)
    assert not retried.is_in
    assert "authorization was not kept" in retried.outcome


def test_a_stored_secret_that_fits_no_more_keeps_it_out_with_a_sentence(store: Store) -> None:
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


def test_two_who_retry_at_once_let_it_in_once(store: Store) -> None:
    kept = refused(store, add_endpoint(store))
    delivery = rejected(store)._verified(store.quarantine.show(kept))
    assert store.quarantine.admit(kept, delivery) == "accepted"
    with pytest.raises(NotFound):
        store.quarantine.admit(kept, delivery)
    (event,) = events(store)
    assert event["deliveries"][0]["copies"] == 0


def test_a_locked_database_is_no_reason_to_lose_it(store: Store) -> None:
    kept = refused(store, add_endpoint(store))
    with locked(store), pytest.raises(CannotStore):
        rejected(store).retry(kept)
    assert rejected(store).retry(kept).is_in


# Looking.


def test_another_endpoints_secret_is_told_by_its_endpoint(store: Store) -> None:
    other = add_endpoint(store, OTHER_BATCH, secret=OTHER_SECRET)
    kept = refused(store, add_endpoint(store), secret=OTHER_SECRET)
    row, diagnosis = rejected(store).explain(kept)
    assert isinstance(diagnosis, Diagnosis)
    assert diagnosis.advice.startswith(f"It is signed with endpoint {other}")
    assert row["body"] == BODY


def test_what_looks_like_a_credential_is_not_shown() -> None:
    kept = "host: x\nx-webhook-secret: hunter2\nx-token: hunter2\nx-signature: abc\n"
    assert shown_headers(kept) == [
        ("host", "x"),
        ("x-webhook-secret", "[hidden]"),
        ("x-token", "[hidden]"),
        ("x-signature", "abc"),
    ]


async def test_what_the_intake_refused_is_explained_by_the_moment_of_its_receipt(
    store: Store, taking: Taking
) -> None:
    endpoint_id = add_endpoint(store)
    taking.now -= 3600
    await taking.deliver(endpoint_id, BODY, secret=OTHER_SECRET)
    await taking.refusal()
    row, diagnosis = rejected(store).explain(store.quarantine.ids()[0])
    assert isinstance(diagnosis, Diagnosis)
    assert diagnosis.skew is not None
    assert abs(diagnosis.skew) <= 1
    assert abs(row["received_at"].timestamp() - taking.now) < 1
