"""The sender's own listing of an account's batches, read as far back as is asked for."""

from dataclasses import dataclass
from datetime import datetime
from functools import partial

from receiver.errors import Refused
from receiver.providers.capabilities.batches import ListsBatches
from receiver.sender_api.calls import Calls
from receiver.sources import Source, webhook_url
from receiver.work.reconcile.patience import patiently
from storage import FetchedBatch

FIRST_LIMIT = 100
LAST_LIMIT = 10_000
"""The senders' listings have no pages: a longer one is asked for until it reaches back far enough.

Which limits a sender takes is documented nowhere; one that is refused ends the attempts."""


@dataclass(frozen=True, slots=True)
class Listed:
    """The batches of an account since a moment; `gap` says why older ones may be missing."""

    batches: list[FetchedBatch]
    gap: str | None


async def list_batches(calls: Calls, provider: ListsBatches, *, since: datetime) -> Listed:
    """List the account's batches that were created since a moment; raises FetchError."""
    found: list[FetchedBatch] = []
    limit = FIRST_LIMIT
    while True:
        try:
            answer = await patiently(partial(calls.call, provider.batches(limit)))
            listed = list(provider.read_batches(answer))
        except Refused:
            if not found:
                raise
            return _cut(found, since)
        is_longer, found = len(listed) > len(found), listed or found
        is_whole = len(listed) < limit and (is_longer or limit == FIRST_LIMIT)
        if is_whole or _reaches(listed, since):
            return Listed([each for each in listed if not _is_older(each, since)], None)
        if not is_longer or limit >= LAST_LIMIT:
            return _cut(found, since)
        limit *= 2


def endpoint_of(url: str | None, source: Source, public_url: str | None) -> str | None:
    """Return the id of the endpoint that a batch's webhook URL names; "" for the account's own URL.

    None for a URL that is not ours. The id alone decides, as our address may have been another one
    when the batch was created: an id has 128 random bits.
    """
    if url is None:
        return None
    if public_url is not None and url.rstrip("/") == webhook_url(public_url, source.name):
        return ""
    _, found, endpoint_id = url.rstrip("/").rpartition(f"{webhook_url('', source.name)}/")
    return endpoint_id if found and endpoint_id and "/" not in endpoint_id else None


def _cut(batches: list[FetchedBatch], since: datetime) -> Listed:
    recent = [each for each in batches if not _is_older(each, since)]
    oldest = min((each.created_at for each in recent if each.created_at), default=None)
    when = "" if oldest is None else f", the oldest of {oldest:%Y-%m-%d %H:%M} UTC"
    return Listed(recent, f"the sender lists only its newest {len(batches)} batches{when}")


def _reaches(batches: list[FetchedBatch], since: datetime) -> bool:
    return any(_is_older(each, since) for each in batches)


def _is_older(batch: FetchedBatch, since: datetime) -> bool:
    return batch.created_at is not None and batch.created_at < since
