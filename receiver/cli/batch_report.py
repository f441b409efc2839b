"""What is missing of a batch, and what is known of why: for `batch show` and `batch wait`."""

from collections.abc import Mapping, Sequence
from typing import Any

import typer

from receiver.cli.output import errors, in_one_line, print_rows
from storage import Ledger, Store


def print_missing(ledger: Ledger, found: Mapping[str, Any]) -> None:
    """Tell a person on standard output; nothing where nothing is missing."""
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
    """One sentence for each thing that is known of why a batch is not complete."""
    if ledger.state == "complete":
        return []
    sentences = []
    named = ledger.stored + len(found["missing"])
    if named < ledger.expected:
        sentences.append(f"{ledger.expected} expected, {named or 'none'} named yet.")
    tried = found["last_attempt"]
    if tried is not None and tried["outcome"] != "paused":  # a pause is said of the source
        detail = in_one_line(tried["detail"])
        at = in_one_line(tried["started_at"])
        sentences.append(
            f"Last attempt ({at}, job {tried['job_id']}): {tried['outcome']}: {detail}"
        )
    return sentences


class DeadLetters:
    """Tells of a batch's dead letters while it is waited for, of each state of them once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._told: Sequence[int] = ()

    def tell(self, ledger: Ledger) -> None:
        """A note on standard error; waiting goes on, for a check or a replay may still help."""
        if ledger.state == "complete":
            return
        dead = self._store.batches.dead_letters(ledger.source, ledger.batch_id)
        news = [letter for letter in dead if letter["id"] not in self._told]
        self._told = [letter["id"] for letter in dead]
        if news:
            newest = news[0]
            reason = in_one_line(newest["reason"]).rstrip(".")
            count = f"{len(dead)} dead letters, the newest" if len(dead) > 1 else "A dead letter"
            errors.print(
                f"{count} keeps results away: {reason}. When that is mended: "
                f"resultsink dead replay {newest['id']}"
            )
