"""The webhooks of a batch: those that were refused, and whether one has arrived."""

import threading

from storage import (
    FetchedBatch,
    FetchedRun,
    Store,
    SubmittedRun,
    UnverifiedDelivery,
    VerifiedDelivery,
)
from tests.storage.build import NOON, tried


def refuse(store: Store, endpoint_id: str | None, *, source: str = "valyu") -> None:
    refused = UnverifiedDelivery(source, endpoint_id, "signature", "no key matches", "", b"")
    store.quarantine.keep(refused)


def arrive(store: Store, subject: str, *, kind: str = "run") -> None:
    """Record a verified delivery with its job."""
    given = {"endpoint_id": None, "key": f"{kind}:{subject}", "disposition": "fetch"}
    what = {"subject_kind": kind, "subject": subject, "headers": "", "body": b"{}", "digest": b"d"}
    stored = threading.Event()
    delivery = VerifiedDelivery(source="valyu", **given, **what)  # type: ignore[arg-type]
    store.deliveries.record([delivery], lambda *_: stored.set())
    assert stored.wait(10)


def batch_with_endpoint(store: Store, batch_id: str) -> str:
    return store.endpoints.add("valyu", "batch", resource=batch_id)


def test_refused_at_its_endpoint_count(store: Store) -> None:
    mine, other = batch_with_endpoint(store, "batch_1"), batch_with_endpoint(store, "batch_2")
    for endpoint_id in (mine, other, mine, None):
        refuse(store, endpoint_id)
    refuse(store, mine, source="other")
    found = store.batches.webhooks(store.batches.ledger("batch_1"))
    assert (found.has_arrived, found.refused, found.reason) == (False, 2, "signature")
    assert found.newest_refused == store.quarantine.list_newest(endpoint_id=mine)[1]["id"]


def test_refused_at_an_endpoint_of_a_run_count(store: Store) -> None:
    mine, other = (store.endpoints.add("valyu", "run", secret=char * 43) for char in "st")
    store.batches.register("valyu", "batch_1", endpoint_id=None)
    store.batches.add_runs("valyu", "batch_1", [SubmittedRun("r1", None, None, mine)])
    refuse(store, mine)
    refuse(store, other)
    assert store.batches.webhooks(store.batches.ledger("batch_1")).refused == 1


def test_refused_at_the_account_count_since_its_start(store: Store) -> None:
    refuse(store, None)
    store.batches.register("valyu", "tgrp_1", endpoint_id=None)
    refuse(store, None)
    refuse(store, batch_with_endpoint(store, "batch_2"))
    assert store.batches.webhooks(store.batches.ledger("tgrp_1")).refused == 1


def test_webhook_of_batch_or_run_has_arrived(store: Store) -> None:
    for batch_id in ("batch_1", "batch_2", "batch_3"):
        store.batches.register("valyu", batch_id, endpoint_id=None)
    store.batches.add_runs("valyu", "batch_2", [SubmittedRun("r1", None, None)])
    arrive(store, "batch_1", kind="batch")
    arrive(store, "r1")
    arrive(store, "r2")
    arrived = [store.batches.webhooks(batch).has_arrived for batch in store.batches.list_newest()]
    assert arrived == [False, True, True]


def test_webhook_whose_job_is_done_has_arrived(store: Store) -> None:
    store.batches.register("valyu", "batch_1", endpoint_id=None)
    arrive(store, "batch_1", kind="batch")
    leases = store.jobs.claim("valyu", limit=1)
    ended = FetchedBatch("batch_1", "completed", is_terminal=True)
    for lease in leases:
        store.batches.save(lease, ended)
        store.jobs.finish(lease, tried())
    store.batches.note("valyu", ended)
    assert store.batches.webhooks(store.batches.ledger("batch_1")).has_arrived


def test_webhook_that_brought_a_result_has_arrived(store: Store) -> None:
    for batch_id in ("batch_1", "batch_2"):
        store.batches.register("valyu", batch_id, endpoint_id=None)
    for run_id, batch_id, found_by in (("r1", "batch_1", "webhook"), ("r2", "batch_2", "wait")):
        run = FetchedRun(
            run_id, "completed", "completed", {}, batch_id=batch_id, output="x", has_output=True
        )
        store.runs.note("valyu", run, fetched_at=NOON, found_by=found_by)  # type: ignore[arg-type]
    arrived = [store.batches.webhooks(batch).has_arrived for batch in store.batches.list_newest()]
    assert arrived == [False, True]
