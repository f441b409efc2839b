"""resultsink endpoint: URLs and secrets for what other code creates."""

import re
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, TextIO

import typer

from receiver.app import open_store
from receiver.cli.durations import end_of_old
from receiver.cli.opening import opened
from receiver.cli.options import AsJson, SourceName
from receiver.cli.output import errors, in_one_line, print_json, print_rows
from receiver.errors import UsageError
from receiver.settings import load
from receiver.signatures.verify import doubt, prepare
from receiver.sources import Source, configured, named, webhook_url
from storage import EndpointView

app = typer.Typer(help="Endpoints and their signing secrets.", no_args_is_help=True)

MAX_READ = 64 * 1024
"""Characters of standard input that are read for a secret."""

TAKES_AN_ID = {"ignore_unknown_options": True}
"""An endpoint's id may begin with a dash, and is no option then."""


class Kind(StrEnum):
    """What an endpoint is for."""

    batch = "batch"
    task = "task"
    run = "run"
    contents = "contents"
    account = "account"


@app.command()
def add(
    source: Annotated[str, typer.Argument(help="The configured source.")],
    kind: Annotated[Kind, typer.Option(help="What will be announced there.")] = Kind.batch,
    resource: Annotated[
        str | None, typer.Option(help="The id of what will be announced, if it is known.")
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="The stored task below which it lives (Parallel v0).")
    ] = None,
    secret_stdin: Annotated[
        bool, typer.Option("--secret-stdin", help="Read the signing secret from standard input.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make the URL to give to the sender; its secret is pending unless given."""
    settings = load()
    found = named(configured(settings), source)
    _refuse_kind(found, kind, resource)
    secret = _read_secret(found) if secret_stdin else None
    store = open_store(settings)
    try:
        endpoint_id = store.endpoints.add(source, str(kind), resource=resource, task_id=task)
        if secret is not None:
            store.endpoints.set_secret(endpoint_id, secret)
    finally:
        store.close()
    path = f"/webhooks/{source}/{endpoint_id}"
    public = settings.public_url
    url = webhook_url(public, source, endpoint_id) if public else None
    if as_json:
        print_json({"endpoint": endpoint_id, "path": path, "url": url})
        return
    typer.echo(url or path)
    if url is None:
        errors.print("Set public_url to have the whole URL printed.")
    if secret is None and not found.account_keys:
        errors.print(f"Its secret is pending: resultsink endpoint secret {endpoint_id}")


def _refuse_kind(source: Source, kind: Kind, resource: str | None) -> None:
    """What the source's sender does not announce; an account has no single resource."""
    if str(kind) not in source.provider.kinds and kind is not Kind.account:
        kinds = ", ".join(sorted({*source.provider.kinds, str(Kind.account)}))
        raise UsageError(f"Source {source.name} announces no {kind}: use --kind {kinds}.")
    if kind is Kind.account and resource is not None:
        raise UsageError("An endpoint for the account is for no single resource.")


@app.command(context_settings=TAKES_AN_ID)
def secret(
    endpoint: Annotated[str, typer.Argument(help="The endpoint's id.")],
    resource: Annotated[
        str | None, typer.Option(help="The id of the batch or task that was created.")
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="The stored task below which it lives (Parallel v0).")
    ] = None,
) -> None:
    """Register the signing secret, read from standard input; older ones stay valid."""
    settings = load()
    store = open_store(settings, create=False)
    try:
        view = store.endpoints.find(endpoint)
        if view is None:
            raise UsageError(f"There is no endpoint {endpoint}: see `endpoint list`.")
        if view.kind == Kind.account and resource is not None:
            raise UsageError("An endpoint for the account is for no single resource.")
        text = _read_secret(named(configured(settings), view.source))
        store.endpoints.set_secret(endpoint, text, resource=resource, task_id=task)
    finally:
        store.close()
    errors.print(f"Endpoint {endpoint} is open.")


@app.command(context_settings=TAKES_AN_ID)
def rotate(
    endpoint: Annotated[str, typer.Argument(help="The endpoint's id.")],
    keep: Annotated[
        str | None, typer.Option(help="How long the old secrets stay valid: 90m, 24h, 7d, 0.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="The same as a moment: 2026-12-01T00:00:00Z.")
    ] = None,
) -> None:
    """Replace the signing secret by one from standard input; old ones stay valid for 24h."""
    old_until = end_of_old(keep, until, now=datetime.now(UTC))
    settings = load()
    store = open_store(settings, create=False)
    try:
        view = store.endpoints.find(endpoint)
        if view is None:
            raise UsageError(f"There is no endpoint {endpoint}: see `endpoint list`.")
        text = _read_secret(named(configured(settings), view.source))
        if view.secrets and view.secrets[0].text == text:
            raise UsageError("The secret was not replaced: it is the newest one already.")
        store.endpoints.rotate_secret(endpoint, text, old_until=old_until)
    finally:
        store.close()
    errors.print(f"Endpoint {endpoint} has a new secret; {_of_the_old(view, old_until)}.")


def _of_the_old(view: EndpointView, old_until: datetime) -> str:
    if not view.secrets:
        return "it had none before"
    if old_until <= datetime.now(UTC):
        return "the old ones are refused within two seconds"
    return f"the old ones stay valid until {in_one_line(old_until)} UTC at most"


@app.command("list")
def list_(source: SourceName = None, as_json: AsJson = False) -> None:
    """List the endpoints, newest first; secrets are never shown."""
    with opened() as store:
        rows = store.endpoints.list_all(source=source)
    if as_json:
        print_json(rows)
        return
    shown = [{**row, "secrets": _in_short(row["secrets"])} for row in rows]
    columns = ["created_at", "source", "id", "kind", "resource", "state", "secrets"]
    print_rows(shown, columns, nothing="There are no endpoints yet: see `endpoint add --help`.")


@app.command(context_settings=TAKES_AN_ID)
def close(endpoint: Annotated[str, typer.Argument(help="The endpoint's id.")]) -> None:
    """Answer 404 at this endpoint from now on; what was acknowledged stays."""
    with opened() as store:
        store.endpoints.close(endpoint)
    errors.print(f"Endpoint {endpoint} is closed.")


def _in_short(secrets: Sequence[Mapping[str, Any]]) -> str:
    """How many, which reading of the newest matched, and until when there are older ones."""
    if not secrets:
        return "-"
    newest, *older = secrets
    said = [str(len(secrets)), *([newest["reading"]] if newest["reading"] else [])]
    ends = [secret["valid_until"] for secret in older if secret["valid_until"]]
    if ends:
        said.append(f"older until {in_one_line(max(ends))}")
    return ", ".join(said)


def _read_secret(source: Source) -> str:
    """The secret on standard input, refused at once where it cannot be one."""
    if sys.stdin.isatty():
        text = typer.prompt("Signing secret", hide_input=True, err=True)
    else:
        text = _only_line(sys.stdin)
    try:
        prepare(source.scheme, text)
    except ValueError as error:
        raise UsageError(f"The secret was not registered: {error}.") from None
    if (odd := doubt(source.scheme, text)) is not None:
        errors.print(f"{odd}.")
    return str(text)


def _only_line(file: TextIO) -> str:
    """The one line of text in a file, whatever ends it; what is more than one is no secret."""
    try:
        text = file.read(MAX_READ + 1)
    except UnicodeDecodeError:
        raise UsageError("The secret was not registered: standard input is no text.") from None
    lines = [line for line in re.split(r"[\r\n]+", text) if line.strip()]
    if len(lines) > 1 or len(text) > MAX_READ:
        raise UsageError(
            "The secret was not registered: standard input holds more than one line: "
            "send the secret alone."
        )
    return lines[0] if lines else ""
