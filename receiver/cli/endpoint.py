"""resultsink endpoint: URLs and secrets for what other code creates."""

import sys
from enum import StrEnum
from typing import Annotated

import typer

from receiver.app import open_store
from receiver.batches import webhook_url
from receiver.cli.common import AsJson, SourceName, errors, opened, print_json, print_rows
from receiver.errors import UsageError
from receiver.settings import load
from receiver.signatures import prepare
from receiver.sources import Source, configured, named

app = typer.Typer(help="Endpoints and their signing secrets.", no_args_is_help=True)

TAKES_AN_ID = {"ignore_unknown_options": True}
"""An endpoint's id may begin with a dash, and is no option then."""


class Kind(StrEnum):
    """What an endpoint is for."""

    batch = "batch"
    task = "task"


@app.command()
def add(
    source: Annotated[str, typer.Argument(help="The configured source.")],
    kind: Annotated[Kind, typer.Option(help="What will be announced there.")] = Kind.batch,
    resource: Annotated[
        str | None, typer.Option(help="The id of the batch or task, if it is known.")
    ] = None,
    secret_stdin: Annotated[
        bool, typer.Option("--secret-stdin", help="Read the signing secret from standard input.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make the URL to give to the sender; its secret is pending unless given."""
    settings = load()
    found = named(configured(settings), source)
    if str(kind) not in found.provider.kinds:
        kinds = ", ".join(sorted(found.provider.kinds))
        raise UsageError(f"Source {source} announces no {kind}: use --kind {kinds}.")
    secret = _read_secret(found) if secret_stdin else None
    store = open_store(settings)
    try:
        endpoint_id = store.add_endpoint(source, str(kind), resource=resource)
        if secret is not None:
            store.set_secret(endpoint_id, secret)
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
    if secret is None:
        errors.print(f"Its secret is pending: resultsink endpoint secret {endpoint_id}")


@app.command(context_settings=TAKES_AN_ID)
def secret(
    endpoint: Annotated[str, typer.Argument(help="The endpoint's id.")],
    resource: Annotated[
        str | None, typer.Option(help="The id of the batch or task that was created.")
    ] = None,
) -> None:
    """Register the signing secret, read from standard input; older ones stay valid."""
    settings = load()
    store = open_store(settings, create=False)
    try:
        view = store.find_endpoint(endpoint)
        if view is None:
            raise UsageError(f"There is no endpoint {endpoint}: see `endpoint list`.")
        text = _read_secret(named(configured(settings), view.source))
        store.set_secret(endpoint, text, resource=resource)
    finally:
        store.close()
    errors.print(f"Endpoint {endpoint} is open.")


@app.command("list")
def list_(source: SourceName = None, as_json: AsJson = False) -> None:
    """List the endpoints, newest first; secrets are never shown."""
    with opened() as store:
        rows = store.list_endpoints(source=source)
    if as_json:
        print_json(rows)
        return
    columns = ["created_at", "source", "id", "kind", "resource", "state"]
    print_rows(rows, columns, nothing="There are no endpoints yet: see `endpoint add --help`.")


@app.command(context_settings=TAKES_AN_ID)
def close(endpoint: Annotated[str, typer.Argument(help="The endpoint's id.")]) -> None:
    """Answer 404 at this endpoint from now on; what was acknowledged stays."""
    with opened() as store:
        store.close_endpoint(endpoint)
        view = store.find_endpoint(endpoint)
        if view is not None and view.resource is None:
            store.end_checks(endpoint)  # nobody will ever say what it was for
    errors.print(f"Endpoint {endpoint} is closed.")


def _read_secret(source: Source) -> str:
    """The secret on standard input, refused at once where it cannot be one."""
    if sys.stdin.isatty():
        text = typer.prompt("Signing secret", hide_input=True, err=True)
    else:
        text = sys.stdin.readline().rstrip("\r\n")
    try:
        prepare(source.scheme, text)
    except ValueError as error:
        raise UsageError(f"The secret was not registered: {error}.") from None
    return str(text)
