"""Ledgers with what is missing, and results, for programs."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar, get_args

from starlette.responses import Response

from receiver.api.requests import ApiRequest
from receiver.api.responses import RETRY_AFTER, Problem, answer
from receiver.api.result_stream import ResultLines
from storage import NotFound, Selection

T = TypeVar("T")

MAX_LIMIT = 1_000

Status = Literal["all", "completed", "failed"]


async def list_all(request: ApiRequest) -> Response:
    """List the newest batches, newest first."""
    query = request.query("source", "limit")
    source, limit = request.source(query.get("source")), _limit(query.get("limit", "100"))
    ledgers = await request.context.in_thread(
        request.context.store.batches.list_newest, source=source, limit=limit
    )
    return answer({"batches": [ledger.as_dict() for ledger in ledgers]})


async def show(request: ApiRequest) -> Response:
    """Show the story of a batch: its numbers, how each result came, what is missing and why."""
    read = request.context.store.batches.story
    story = await _read(request, read, request.query("source").get("source"))
    source = request.context.sources.get(story.ledger.source)
    has_cost = story.arrivals.cost is not None
    currency = source.provider.currency if source is not None and has_cost else None
    return answer({**story.as_dict(), "currency": currency})


async def results(request: ApiRequest) -> Response:
    """Stream the results of a batch as JSON Lines; a header says if the batch is complete."""
    query = request.query("source", "status")
    status = _status(query)
    # read before the results, to promise less
    ledger = await _read(request, request.context.store.batches.ledger, query.get("source"))
    selection = Selection(source=ledger.source, batch_id=ledger.batch_id, status=status)
    pages = await request.context.in_thread(request.context.store.export.json_lines, selection)
    return ResultLines(
        request.context, pages, is_complete=ledger.state == "complete" and not ledger.pruned
    )


async def all_results(request: ApiRequest) -> Response:
    """Stream the results of a source, or of all, as JSON Lines; a header says if all are there."""
    query = request.query("source", "status")
    source, export = request.source(query.get("source")), request.context.store.export
    selection = Selection(source=source, status=_status(query))
    in_thread = request.context.in_thread
    # read before the results, to promise less
    sources = await in_thread(export.sources) if source is None else [source]
    gaps = await in_thread(export.gaps, sources)
    pruned = await in_thread(export.count_pruned, selection)
    pages = await in_thread(export.json_lines, selection)
    return ResultLines(request.context, pages, is_complete=not gaps and not pruned)


async def run(request: ApiRequest) -> Response:
    """Show the current result of a run; 202 with what is known while there is none yet.

    410 where its content was pruned.
    """
    source = request.source(request.query("source").get("source"))
    if source is None:
        raise Problem(400, "Say whose run it is: add ?source=NAME.")
    run_id = request.params["run_id"]
    pages = await request.context.in_thread(
        request.context.store.export.json_lines, Selection(source=source, run_id=run_id)
    )
    found = await request.context.in_thread(next, pages, None)
    if found is not None:
        return Response(found, headers={"cache-control": "no-store"}, media_type="application/json")
    known = await request.context.in_thread(request.context.store.runs.find, source, run_id)
    if known is None:
        raise Problem(404, "There is no such run: look at its id and its source, or register it.")
    if known.pruned_at is not None:
        raise Problem(410, "The content of this result was pruned for its age: ask the sender.")
    shown = {
        "source": source,
        "run_id": run_id,
        "sender_status": known.sender_status,
        "waits_for": known.waits_for,
    }
    return answer(shown, 202, headers=RETRY_AFTER)


async def _read(request: ApiRequest, read: Callable[..., T], source: str | None) -> T:
    """Return what `read` says of the request's batch."""
    source = request.source(source)
    try:
        return await request.context.in_thread(read, request.params["batch_id"], source=source)
    except NotFound:
        several = "" if source else ", or several sources have one (then add ?source=NAME)"
        raise Problem(
            404, f"There is no such batch{several}: GET /batches lists those there are."
        ) from None


def _status(query: Mapping[str, str]) -> Status:
    status: Any = query.get("status", "all")
    if status not in get_args(Status):
        raise Problem(400, f"There is no such status: use {', '.join(get_args(Status))}.")
    found: Status = status
    return found


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= MAX_LIMIT):
        raise Problem(400, f"The parameter limit is a number from 1 to {MAX_LIMIT}: send that.")
    return int(text)
