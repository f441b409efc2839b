"""resultsink rejected: list and explain refused requests, and retry them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from receiver.cli.help import Commands
from receiver.cli.opening import existing_store
from receiver.cli.options import AsJson, Id, IdOrNone, Limit, SourceName
from receiver.cli.output import harmless, in_one_line, print_json, print_list, say
from receiver.errors import UsageError

if TYPE_CHECKING:
    from receiver.intake.rejected import Rejected, Retried
    from receiver.signatures.diagnosis import Diagnosis
    from storage import Store

app = Commands(help="Requests that were refused.")

MAX_SHOWN = 4_000
"""Characters of a body that are printed for people."""


@contextmanager
def _rejected() -> Iterator[tuple[Store, Rejected]]:
    from receiver.intake.rejected import Rejected
    from receiver.settings import load
    from receiver.sources import configured

    settings = load()
    sources = configured(settings)
    with existing_store(settings) as store:
        yield store, Rejected(store, sources)


@app.command("list")
def list_(
    endpoint: Annotated[
        str | None, typer.Option(metavar="ID", help="Only those at this endpoint.")
    ] = None,
    source: SourceName = None,
    limit: Limit = 100,
    as_json: AsJson = False,
) -> None:
    """List the refused requests in the quarantine, newest first; senders only ever saw a 401.

    Example:
        resultsink rejected list --source valyu
    """
    with existing_store() as store:
        rows = store.quarantine.list_newest(source=source, endpoint_id=endpoint, limit=limit)
    columns = ["id", "received_at", "source", "endpoint_id", "reason", "detail", "body_bytes"]
    print_list(rows, columns, nothing="Nothing was refused.", as_json=as_json)


@app.command()
def show(rejected_id: Id, as_json: AsJson = False) -> None:
    """Explain one refusal: the request, the secrets tried, what would match, what to do.

    Example:
        resultsink rejected show 12
    """
    from receiver.intake.rejected import shown_headers

    with _rejected() as (_, rejected):
        row, diagnosis = rejected.explain(rejected_id)
    headers = shown_headers(row["headers"])
    body = row["body"].decode("utf-8", "backslashreplace")
    if as_json:
        plain = {"advice": diagnosis} if isinstance(diagnosis, str) else asdict(diagnosis)
        print_json({**row, "headers": headers, "body": body, "diagnosis": plain})
        return
    for name in ("id", "source", "endpoint_id", "received_at", "reason", "detail"):
        typer.echo(f"{name.replace('_', ' '):>12}  {in_one_line(row[name])}")
    for label, text in _lines(diagnosis):
        typer.echo(f"{label:>12}  {harmless(text, keep='')}")
    typer.echo("\nheaders")
    for name, value in headers:
        typer.echo(harmless(f"{name}: {value}", keep=""))
    typer.echo(f"\nbody, {row['body_bytes']} bytes")
    cut = f"\n... {len(body) - MAX_SHOWN} characters more" if len(body) > MAX_SHOWN else ""
    typer.echo(harmless(body[:MAX_SHOWN]) + cut)


def _lines(diagnosis: Diagnosis | str) -> Iterator[tuple[str, str]]:
    if isinstance(diagnosis, str):
        yield "what to do", diagnosis
        return
    yield "scheme", diagnosis.scheme
    for header in diagnosis.headers:
        came = {True: "came", False: "did not come", None: "is never kept"}[header.came]
        alike = f"; {', '.join(header.look_alikes)} did" if header.look_alikes else ""
        yield "header", f"{header.header} {came}{alike}"
    for secret in diagnosis.tried:
        yield "tried", f"{secret.secret}, read as {' and '.join(secret.readings) or 'nothing'}"
    if diagnosis.skew is not None:
        way = "before" if diagnosis.skew >= 0 else "after"
        allowed = "" if diagnosis.tolerance is None else f" ({diagnosis.tolerance:.0f} s may be)"
        yield "clock", f"signed {abs(diagnosis.skew):.1f} s {way} it was received{allowed}"
    if diagnosis.would_match is not None:
        yield "would match", ", ".join(f"{k}: {v}" for k, v in diagnosis.would_match.items())
    yield "what to do", diagnosis.advice


@app.command()
def retry(
    rejected_id: IdOrNone = None,
    all_: Annotated[bool, typer.Option("--all", help="Retry every request that is kept.")] = False,
    source: SourceName = None,
    as_json: AsJson = False,
) -> None:
    """Verify again by the present secrets and settings, and let in what is genuine.

    Example:
        resultsink rejected retry --all --source valyu
    """
    if (rejected_id is None) is not all_ or (source is not None and not all_):
        raise UsageError("Say which one: an ID, or --all, perhaps with --source SOURCE.")
    with _rejected() as (store, rejected):
        if rejected_id is None:
            found = list(_each(rejected, store.quarantine.ids(source=source)))
        else:
            found = [rejected.retry(rejected_id)]
    _report(found, as_json=as_json)
    if rejected_id is not None and not found[0].is_in:
        raise typer.Exit(1)


def _each(rejected: Rejected, ids: list[int]) -> Iterator[Retried]:
    from storage import NotFound

    for rejected_id in ids:
        try:
            yield rejected.retry(rejected_id)
        except NotFound:  # it was evicted, or another process has let it in
            continue


def _report(found: list[Retried], *, as_json: bool) -> None:
    let_in = [each for each in found if each.is_in]
    stays = [each for each in found if not each.is_in]
    if as_json:
        print_json({"let_in": [_plain(e) for e in let_in], "stay": [_plain(e) for e in stays]})
        return
    copies = sum(each.outcome == "duplicate" for each in let_in)
    known = f" ({copies} of them known before)" if copies else ""
    say(f"{len(let_in)} let in{known}, {len(stays)} stay.")
    for reason, count in Counter(each.outcome for each in stays).most_common():
        say(f"{count:>6}  {harmless(reason, keep='')}")


def _plain(each: Retried) -> dict[str, object]:
    return {"id": each.id, "outcome": each.outcome}
