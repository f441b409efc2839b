"""The demo's events in colour: lines of the receiver's log as sentences for a person."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any

from receiver.cli.output import readable

if TYPE_CHECKING:
    from rich.console import Console

_STYLES = {"delivery": "green", "duplicate": "yellow", "forgery": "red", "results": "cyan"}


def say_of(console: Console, subject: str, text: str) -> None:
    """Print a line that begins with its subject, in the subject's colour."""
    style = _STYLES.get(subject, "bold")
    console.print(f"[{style}]{subject:<11}[/]{readable(text)}", soft_wrap=True)


def narrate(lines: IO[str], console: Console) -> None:
    """Print the log lines that belong to the story until the log ends; others are left out."""
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            console.print(line.rstrip(), markup=False)
            continue
        if (sentence := _SENTENCES.get(entry["event"])) is not None:
            say_of(console, *sentence(entry))


def _delivery(entry: dict[str, Any]) -> tuple[str, str]:
    kind, _, status = entry["event_key"].split(":")[:3]
    if entry["outcome"] == "duplicate":
        return "duplicate", f"ignored, answered after {entry['ms']} ms: {kind} {status}"
    return "delivery", f"verified, on disk after {entry['ms']} ms: {kind} {status}"


def _refusal(entry: dict[str, Any]) -> tuple[str, str]:
    return "forgery", f"refused: {entry['reason']}"


def _attempt(entry: dict[str, Any]) -> tuple[str, str]:
    return "fetch", f"{entry['outcome']} after {entry['ms']} ms: {entry['detail']}"


def _page(entry: dict[str, Any]) -> tuple[str, str]:
    return "results", f"a page stored: {entry['new']} new, {entry['unchanged']} known"


_SENTENCES: dict[str, Callable[[dict[str, Any]], tuple[str, str]]] = {
    "delivery": _delivery,
    "delivery refused": _refusal,
    "attempt": _attempt,
    "results stored": _page,
}
