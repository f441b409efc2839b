"""Fetched runs made ready for the tables, outside of the transaction that stores them."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from storage.fetched import FetchedRun, clean

PIECE_ROWS = 500
PIECE_CHARACTERS = 4 * 1024 * 1024
"""A page is stored in transactions that end at either limit: acks must get between them."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A fetched run made ready for the tables: cleaned, digested, written as text.

    Made outside of the transaction, so that the writer's thread does not wait for it.
    """

    run: FetchedRun
    input: Any
    output: Any
    sources: Any
    error: str | None
    digest: bytes
    raw: str
    cleaned: bool


_NAMES = ("sender_status", "batch_id", "task_id", "runner", "output_type")
_RANK = {"queued": 0, "running": 1, "completed": 2, "failed": 2, "cancelled": 2}


def pieces(runs: Sequence[FetchedRun]) -> Iterator[tuple[list[Prepared], bool]]:
    """Prepare a page in pieces for a transaction each; with each whether it is the last.

    There is always a last one. A run that stands twice on the page counts once, by its end.
    """
    by_rank = sorted(runs, key=lambda run: _RANK[run.status])
    piece: list[Prepared] = []
    characters = 0
    for run in {run.run_id: run for run in by_rank}.values():
        prepared = prepare(run)
        full = len(piece) == PIECE_ROWS or characters + len(prepared.raw) > PIECE_CHARACTERS
        if piece and full:
            yield piece, False
            piece, characters = [], 0
        piece.append(prepared)
        characters += len(prepared.raw)
    yield piece, True


def prepare(run: FetchedRun) -> Prepared:
    """Clean and digest a run. `raw` keeps, escaped, what the cleaning took out.

    A run nested too deeply to be looked through is kept as well, in `raw` alone: it must not keep
    the others of its page from being stored.
    """
    try:
        return _prepared(run, [run.input, run.output, run.sources, run.error])
    except RecursionError:
        error = "nested too deeply for the columns: see raw"
        return replace(_prepared(run, [None, None, None, error]), cleaned=True)


def _prepared(run: FetchedRun, before: list[Any]) -> Prepared:
    names = {name: getattr(run, name) for name in _NAMES}
    after, known_as = [clean(value) for value in before], clean(names)
    content = json.dumps(
        [run.status, *(_without_queries(value) for value in after[1:])],
        sort_keys=True,
        separators=(",", ":"),
    )
    return Prepared(
        run=replace(run, **known_as),
        input=after[0],
        output=after[1],
        sources=after[2],
        error=after[3],
        digest=hashlib.sha256(content.encode()).digest(),
        raw=json.dumps(run.raw, separators=(",", ":")),
        cleaned=before != after or names != known_as,
    )


def _without_queries(value: Any) -> Any:
    """Take the query strings out of URLs: signed ones differ at every call."""
    if isinstance(value, str):
        if value.startswith(("https://", "http://")) and " " not in value and "?" in value:
            return value.split("?", 1)[0]
        return value
    if isinstance(value, list):
        return [_without_queries(item) for item in value]
    if isinstance(value, dict):
        return {key: _without_queries(item) for key, item in value.items()}
    return value
