"""Rows for fetched runs, made outside of the transaction that stores them."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from storage.fetched import FetchedRun
from storage.json_text import clean, encoded, mapped
from storage.presigned_urls import without_queries

CHUNK_ROWS = 500
CHUNK_CHARACTERS = 4 * 1024 * 1024
"""A page is stored in transactions that end at either limit, so that acks come in between."""


@dataclass(frozen=True, slots=True)
class RunRow:
    """A fetched run as the tables take it: cleaned, digested, its documents as JSON text.

    `raw` is the whole answer, escaped to ASCII; `cleaned` is True where the columns differ from
    what was received.
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


@dataclass(frozen=True, slots=True)
class RowChunk:
    """The part of a page that one transaction stores."""

    rows: list[RunRow]
    is_last: bool


def chunks_of(runs: Sequence[FetchedRun]) -> Iterator[RowChunk]:
    """Yield the rows of a page in chunks, of which there is always a last one.

    A run that is twice on the page counts once, by the later status.
    """
    by_rank = sorted(runs, key=lambda run: _RANK[run.status])
    chunk: list[RunRow] = []
    characters = 0
    for run in {run.run_id: run for run in by_rank}.values():
        row = row_of(run)
        full = len(chunk) == CHUNK_ROWS or characters + len(row.raw) > CHUNK_CHARACTERS
        if chunk and full:
            yield RowChunk(chunk, is_last=False)
            chunk, characters = [], 0
        chunk.append(row)
        characters += len(row.raw)
    yield RowChunk(chunk, is_last=True)


def row_of(run: FetchedRun) -> RunRow:
    """Clean and digest a run. `raw` keeps, escaped, what the cleaning took out.

    A run that is nested too deeply to be cleaned is kept in `raw` alone; of one that is nested too
    deeply for `raw`, the values at its top are kept. The other runs of its page must still be
    stored.
    """
    try:
        return _row(run, [run.input, run.output, run.sources, run.error])
    except RecursionError:
        shallow = [None, None, None, "nested too deeply for the columns: see raw"]
    try:
        return replace(_row(run, shallow), cleaned=True)
    except RecursionError:
        top = {name: value for name, value in run.raw.items() if not isinstance(value, dict | list)}
        return replace(_row(replace(run, raw=top), shallow), cleaned=True)


def digest_of(status: str, output: Any, sources: Any, error: str | None) -> bytes:
    """Return the digest of a result's cleaned content; raises RecursionError."""
    content = [mapped(value, _compared) for value in (output, sources, error)]
    return hashlib.sha256(encoded([status, *content], sort_keys=True).encode()).digest()


def _row(run: FetchedRun, before: list[Any]) -> RunRow:
    names = {name: getattr(run, name) for name in _NAMES}
    after, known_as = [clean(value) for value in before], clean(names)
    given, output, sources, error = after
    columns = [None if value is None else encoded(value) for value in (output, sources)]
    # A column that was cleaned is not what was received.
    written = {
        id(value): text
        for value, text in zip((run.output, run.sources), columns, strict=True)
        if text is not None and (value is output or value is sources)
    }
    return RunRow(
        run=replace(run, **known_as),
        input=given,
        output=columns[0],
        sources=columns[1],
        error=error,
        digest=digest_of(run.status, output, sources, error),
        raw=_raw(run, written),
        cleaned=any(one is not other for one, other in zip(before, after, strict=True))
        or names is not known_as,
    )


def _raw(run: FetchedRun, written: Mapping[int, str]) -> str:
    """Return the answer as JSON; `written` has the text of some of its values, by their `id()`."""
    parts = (
        f"{encoded(key)}: {written.get(id(value)) or encoded(value)}"
        for key, value in run.raw.items()
    )
    return "{" + ", ".join(parts) + "}"


def _compared(leaf: Any) -> Any:
    """Return the part of a leaf that is compared: signed URLs have another query at every call."""
    return without_queries(leaf) if isinstance(leaf, str) else leaf
