"""The ledger of a batch in sentences: its outcome, what is missing, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from receiver.cli.output import in_one_line, print_rows, say

if TYPE_CHECKING:
    from storage import Ledger, Store


def outcome(ledger: Ledger) -> str:
    """Return one sentence on how a batch has ended, or that it has not."""
    counts = f"{ledger.stored} of {ledger.expected} results stored, {ledger.failed} failed"
    if ledger.state != "complete":
        return f"not complete: {counts}"
    if ledger.sender_status == "cancelled":
        return f"cancelled: {counts}"
    return f"completed with errors: {counts}" if ledger.failed else f"completed: {counts}"


def print_missing(ledger: Ledger, found: Mapping[str, Any]) -> None:
    """Print what is missing of a batch, and why; nothing where nothing is missing."""
    runs = found["missing"]
    if ledger.pruned:
        typer.echo(f"\n{ledger.pruned} results reached their age: their content was pruned.")
    for sentence in reasons(ledger, found):
        typer.echo(f"\n{sentence}")
    if runs:
        typer.echo(f"\n{len(runs)} runs have no result yet:")
        print_rows(runs, ["run_id", "task_id", "status", "sender_status"], nothing="")
    if found["dead"]:
        typer.echo("\ndead letters:")
        print_rows(found["dead"], ["id", "kind", "subject", "reason"], nothing="")


def reasons(ledger: Ledger, found: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each known reason why a batch is not complete."""
    if ledger.state == "complete":
        return []
    sentences = []
    named = ledger.stored + len(found["missing"])
    if named < ledger.expected:
        sentences.append(f"{ledger.expected} expected, {named or 'none'} named yet.")
    attempt = found["last_attempt"]
    if attempt is not None and attempt["outcome"] != "paused":  # `say_if_paused` has said it
        detail = in_one_line(attempt["detail"])
        at = in_one_line(attempt["started_at"])
        sentences.append(
            f"Last attempt ({at}, job {attempt['job_id']}): {attempt['outcome']}: {detail}"
        )
    return sentences


def say_if_paused(store: Store, ledger: Ledger) -> None:
    """Say why a batch that is not complete receives nothing while its source is paused."""
    for paused in store.sources.list_paused():
        if paused["source"] == ledger.source and ledger.state != "complete":
            say(f"Source {ledger.source} is paused: {paused['paused_reason']}.")


class DeadLetters:
    """Reports the dead letters of a batch that is waited for, each set of them once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._reported: Sequence[int] = ()

    def report(self, ledger: Ledger) -> None:
        """Say on standard error which are new; a check or a replay may still bring the results."""
        if ledger.state == "complete":
            return
        dead = self._store.batches.dead_letters(ledger.source, ledger.batch_id)
        new = [letter for letter in dead if letter["id"] not in self._reported]
        self._reported = [letter["id"] for letter in dead]
        if new:
            newest = new[0]
            reason = in_one_line(newest["reason"]).rstrip(".")
            count = f"{len(dead)} dead letters, the newest" if len(dead) > 1 else "A dead letter"
            say(
                f"{count} keeps results away: {reason}. When that is mended: "
                f"resultsink dead replay {newest['id']}"
            )
