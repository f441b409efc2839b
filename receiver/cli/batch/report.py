"""The ledger of a batch in sentences: its outcome, what is missing, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from receiver.cli.output import in_one_line, say

if TYPE_CHECKING:
    from receiver.sources import Source
    from storage import BatchStory, Ledger, Store, Webhooks


def outcome(ledger: Ledger) -> str:
    """Return one sentence on how a batch has ended, or that it has not."""
    counts = f"{ledger.stored} of {ledger.expected} results stored, {ledger.failed} failed"
    if ledger.state != "complete":
        return f"not complete: {counts}"
    if ledger.sender_status == "cancelled":
        return f"cancelled: {counts}"
    return f"completed with errors: {counts}" if ledger.failed else f"completed: {counts}"


def reasons(story: BatchStory) -> list[str]:
    """Return a sentence for each known reason why a batch is not complete."""
    ledger = story.ledger
    if ledger.state == "complete":
        return []
    sentences = [
        f"{known['total'] - known['done']} of its tasks are not added yet. To go on: "
        f"resultsink batch create --resume {known['id']}"
        for known in story.unfinished
    ]
    if ledger.known < ledger.expected:
        named = f"only {ledger.known} of them" if ledger.known else "none of them"
        sentences.append(f"{ledger.expected} runs are expected; the sender has named {named} yet.")
    if story.paused is not None:
        reason = _reason(story.paused["paused_reason"])
        sentences.append(f"Source {ledger.source} is still paused: {reason}.")
    attempt = story.last_attempt
    if attempt is not None and not (story.paused and attempt["outcome"] == "paused"):
        detail = in_one_line(attempt["detail"])
        at = in_one_line(attempt["started_at"])
        sentences.append(
            f"Last attempt ({at}, job {attempt['job_id']}): {attempt['outcome']}: {detail}"
        )
    return sentences


def _reason(text: str | None) -> str:
    return in_one_line(text or "no reason is known").rstrip(".")


class Hindrances:
    """Says why batches that are waited for receive nothing, each reason once.

    That is a pause of their source, its end too, and a look at the sender that failed.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pauses: dict[str, str] = {}
        self._failures: dict[tuple[str, str], set[str]] = {}

    def report(self, batches: Sequence[Ledger]) -> None:
        """Say on standard error what is new of the batches that are not complete."""
        waited = [batch for batch in batches if batch.state != "complete"]
        self._report_pauses({batch.source for batch in waited})
        for batch in waited:
            self._report_failure(batch)

    def _report_pauses(self, sources: set[str]) -> None:
        paused = {
            each["source"]: _reason(each["paused_reason"])
            for each in self._store.sources.list_paused()
            if each["source"] in sources
        }
        for source in sorted(sources):
            if source not in paused and source in self._pauses:
                say(f"Source {source} is paused no more.")
            elif source in paused and paused[source] != self._pauses.get(source):
                say(f"Source {source} is paused: {paused[source]}.")
        self._pauses = paused

    def _report_failure(self, batch: Ledger) -> None:
        attempt = self._store.batches.last_attempt(batch.source, batch.batch_id)
        if attempt is None or attempt["outcome"] != "failed":
            return
        reason = _reason(attempt["detail"])
        said = self._failures.setdefault((batch.source, batch.batch_id), set())
        if reason not in said:
            said.add(reason)
            say(f"A look at {batch.batch_id} has failed, and is tried again: {reason}.")


class DeadLetters:
    """Reports the dead letters of batches that are waited for, each set of them once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._reported: dict[str, Sequence[int]] = {}

    def report(self, ledger: Ledger) -> None:
        """Say on standard error which are new; a check or a replay may still bring the results."""
        if ledger.state == "complete":
            return
        dead = self._store.batches.dead_letters(ledger.source, ledger.batch_id)
        reported = self._reported.get(ledger.batch_id, ())
        new = [letter for letter in dead if letter["id"] not in reported]
        self._reported[ledger.batch_id] = [letter["id"] for letter in dead]
        if new:
            newest = new[0]
            reason = in_one_line(newest["reason"]).rstrip(".")
            count = f"{len(dead)} dead letters, the newest" if len(dead) > 1 else "A dead letter"
            say(
                f"{count} keeps results away: {reason}. When that is mended: "
                f"resultsink dead replay {newest['id']}"
            )


class WebhookNotes:
    """Says once for each batch that is waited for why its sender has to be asked."""

    def __init__(self, store: Store, sources: Mapping[str, Source], public_url: str | None) -> None:
        self._store = store
        self._sources = sources
        self._public_url = public_url
        self._seen: dict[str, int] = {}
        self._done: set[str] = set()

    def report(self, batch: Ledger) -> None:
        """Say that its webhooks were refused, or that none came although the sender is done.

        The store is read again only once the sender has named more ends, and never after a webhook
        has arrived.
        """
        name = batch.batch_id
        if name in self._done or self._seen.get(name, 0) == batch.announced:
            return
        self._seen[name] = batch.announced
        webhooks = self._store.batches.webhooks(batch)
        if webhooks.has_arrived:
            self._done.add(name)
        elif webhooks.refused:
            self._say(name, self._refused(batch, webhooks))
        elif batch.announced >= batch.expected:
            self._say(name, self._none_came(batch))

    def _say(self, name: str, sentence: str) -> None:
        say(sentence)
        self._done.add(name)

    def _refused(self, batch: Ledger, webhooks: Webhooks) -> str:
        if batch.endpoint_id is None:
            where = f"of source {batch.source}"
            listed = f"resultsink rejected list --source {batch.source}"
        else:
            where = f"of {batch.batch_id}"
            listed = f"resultsink rejected list --endpoint {batch.endpoint_id}"
        return (
            f"{webhooks.refused} webhooks {where} were refused ({webhooks.reason}), so the sender "
            f"is asked instead. Why: resultsink rejected show {webhooks.newest_refused}; "
            f"all of them: {listed}"
        )

    def _none_came(self, batch: Ledger) -> str:
        from receiver.sources import webhook_url

        began = f"The sender is done with {batch.batch_id}, but no webhook of it has arrived"
        source = self._sources.get(batch.source)
        at_account = source is not None and source.provider.announced_at == "account"
        if source is not None and at_account and not source.account_keys:
            return (
                f"{began}, since none is asked for while no signing_secrets are set for source "
                f"{batch.source}: the sender was asked instead."
            )
        public_url = self._public_url or "(no public_url is set)"
        url = webhook_url(public_url, batch.source, batch.endpoint_id)
        return (
            f"{began} at {url}, so it was asked. What has arrived from it: "
            f"resultsink event list --source {batch.source}"
        )
