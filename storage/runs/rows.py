"""Fetched runs made ready for the tables, outside of the transaction that stores them."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from storage.fetched import FetchedRun
from storage.json_text import clean, encoded, mapped
from storage.presigned_urls import without_queries

PIECE_ROWS = 500
PIECE_CHARACTERS = 4 * 1024 * 1024
"""A page is stored in transactions that end at either limit: acks must get between them."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A fetched run made ready for the tables: cleaned, digested, written as JSON text.

    Made outside of the transaction, so that the writer's thread does not wait for it.
    """

    run: FetchedRun
    input: Any
    output: str | None
    sources: str | None
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

    A run nested too deeply to be looked through is kept as well, in `raw` alone; and of one that
    not even `raw` can hold, what stands at its top. It must not keep the others of its page from
    being stored.
    """
    try:
        return _prepared(run, [run.input, run.output, run.sources, run.error])
    except RecursionError:
        shallow = [None, None, None, "nested too deeply for the columns: see raw"]
    try:
        return replace(_prepared(run, shallow), cleaned=True)
    except RecursionError:
        top = {name: value for name, value in run.raw.items() if not isinstance(value, dict | list)}
        return replace(_prepared(replace(run, raw=top), shallow), cleaned=True)


def _prepared(run: FetchedRun, before: list[Any]) -> Prepared:
    names = {name: getattr(run, name) for name in _NAMES}
    after, known_as = [clean(value) for value in before], clean(names)
    given, output, sources, error = after
    told = [mapped(value, _compared) for value in (output, sources, error)]
    digest = hashlib.sha256(encoded([run.status, *told], sort_keys=True).encode()).digest()
    columns = [None if value is None else encoded(value) for value in (output, sources)]
    # A column that was cleaned is not what was received.
    written = {
        id(value): text
        for value, text in zip((run.output, run.sources), columns, strict=True)
        if text is not None and (value is output or value is sources)
    }
    return Prepared(
        run=replace(run, **known_as),
        input=given,
        output=columns[0],
        sources=columns[1],
        error=error,
        digest=digest,
        raw=_raw(run, written),
        cleaned=any(one is not other for one, other in zip(before, after, strict=True))
        or names is not known_as,
    )


def _raw(run: FetchedRun, written: Mapping[int, str]) -> str:
    """The answer as JSON, of which large parts are written already: those whose ids are known."""
    parts = (
        f"{encoded(key)}: {written.get(id(value)) or encoded(value)}"
        for key, value in run.raw.items()
    )
    return "{" + ", ".join(parts) + "}"


def _compared(leaf: Any) -> Any:
    """What of a leaf makes the content: the queries of signed URLs differ at every call."""
    return without_queries(leaf) if isinstance(leaf, str) else leaf
