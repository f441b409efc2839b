"""resultsink endpoint: make endpoints, register and rotate their secrets, list and close them."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from receiver.cli.durations import end_of_old
from receiver.cli.help import Command, Commands
from receiver.cli.opening import begin_work, existing_store, store_to_fill
from receiver.cli.options import AsJson, SourceName
from receiver.cli.output import in_one_line, print_json, print_rows, say
from receiver.errors import UsageError

if TYPE_CHECKING:
    from receiver.sources import Source
    from storage import EndpointView

app = Commands(help="Endpoints and their signing secrets.")

MAX_READ = 64 * 1024
"""Characters of standard input that are read for a secret."""

TAKES_AN_ID = {"ignore_unknown_options": True, "help_option_names": ["--help"]}
"""An endpoint's id may begin with a dash, and is no option then."""


class ById(Command):
    """A command on an endpoint. `-h` is read here, so that an id such as `-Xh4` is no bundle."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments, with `-h` for `--help`."""
        return super().parse_args(ctx, ["--help" if each == "-h" else each for each in args])


EndpointId = Annotated[str, typer.Argument(help="The endpoint's id.")]


class Kind(StrEnum):
    """Kinds of endpoints."""

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
        str | None,
        typer.Option(metavar="ID", help="The id of what will be announced, if it is known."),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(metavar="ID", help="The stored task below which it lives (Parallel v0)."),
    ] = None,
    secret_stdin: Annotated[
        bool, typer.Option("--secret-stdin", help="Read the signing secret from standard input.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make the URL to give to the sender; its secret is pending unless given.

    Example:
        resultsink endpoint add valyu --kind batch
    """
    from receiver import endpoints
    from receiver.settings import load
    from receiver.sources import configured, named

    settings = load()
    found = named(configured(settings), source)
    endpoints.check_kind(found, str(kind), with_account=True, field="--kind")
    endpoints.check_binding(found, str(kind), resource=resource, task_id=task)
    secret = _read_secret(found) if secret_stdin else None
    with store_to_fill(settings) as store:
        view = endpoints.register(
            store, found, str(kind), resource=resource, task_id=task, secret=secret
        )
    address = endpoints.address(source, view.id, settings.public_url)
    if as_json:
        print_json({"endpoint": view.id, "path": address.path, "url": address.url})
        return
    typer.echo(address.url or address.path)
    if address.url is None:
        say("Set public_url to have the whole URL printed.")
    if endpoints.state_of(view, found) == "pending":
        say(f"Its secret is pending: resultsink endpoint secret {view.id}")


@app.command(cls=ById, context_settings=TAKES_AN_ID)
def secret(
    endpoint: EndpointId,
    resource: Annotated[
        str | None, typer.Option(metavar="ID", help="The id of the batch or task that was created.")
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(metavar="ID", help="The stored task below which it lives (Parallel v0)."),
    ] = None,
) -> None:
    """Register the signing secret, read from standard input; older ones stay valid.

    Example:
        resultsink endpoint secret ENDPOINT --resource BATCH_ID < secret.txt
    """
    from receiver import endpoints
    from receiver.settings import load
    from receiver.sources import configured, named

    settings = load()
    with existing_store(settings) as store:
        view = endpoints.find_open(store, endpoint)
        found = named(configured(settings), view.source)
        endpoints.check_binding(found, view.kind, resource=resource, task_id=task)
        text = _read_secret(found)
        endpoints.set_secret(store, view, text, resource=resource, task_id=task)
    say(f"Endpoint {endpoint} is open.")


@app.command(cls=ById, context_settings=TAKES_AN_ID)
def rotate(
    endpoint: EndpointId,
    keep: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION", help="How long the old secrets stay valid: 90m, 24h, 7d, 0."
        ),
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="The same as a moment: 2026-12-01T00:00:00Z.")
    ] = None,
) -> None:
    """Replace the signing secret by one from standard input; old ones stay valid for 24h.

    Example:
        resultsink endpoint rotate ENDPOINT --keep 7d < secret.txt
    """
    from receiver import endpoints
    from receiver.settings import load
    from receiver.sources import configured, named

    old_until = end_of_old(keep, until, now=datetime.now(UTC))
    settings = load()
    with existing_store(settings) as store:
        view = endpoints.find_open(store, endpoint)
        text = _read_secret(named(configured(settings), view.source))
        endpoints.rotate(store, view, text, old_until=old_until)
    say(f"Endpoint {endpoint} has a new secret; {_of_the_old(view, old_until)}.")


def _of_the_old(view: EndpointView, old_until: datetime) -> str:
    if not view.secrets:
        return "it had none before"
    if old_until <= datetime.now(UTC):
        return "the old ones are refused within two seconds"
    return f"the old ones stay valid until {in_one_line(old_until)} UTC at most"


@app.command("list")
def list_(source: SourceName = None, as_json: AsJson = False) -> None:
    """List the endpoints, newest first; secrets are never shown.

    Example:
        resultsink endpoint list --source valyu
    """
    with existing_store() as store:
        rows = store.endpoints.list_all(source=source)
    if as_json:
        print_json(rows)
        return
    shown = [{**row, "secrets": _in_short(row["secrets"])} for row in rows]
    columns = ["created_at", "source", "id", "kind", "resource", "state", "secrets"]
    print_rows(shown, columns, nothing="There are no endpoints yet: see `endpoint add --help`.")


@app.command(cls=ById, context_settings=TAKES_AN_ID)
def close(endpoint: EndpointId) -> None:
    """Answer 404 at this endpoint from now on; acknowledged deliveries stay.

    Example:
        resultsink endpoint close ENDPOINT
    """
    from receiver import endpoints

    with existing_store() as store:
        if not endpoints.close(store, endpoint):
            raise UsageError(f"There is no open endpoint {endpoint}: see `endpoint list`.")
    say(f"Endpoint {endpoint} is closed.")


def _in_short(secrets: Sequence[Mapping[str, Any]]) -> str:
    """Return their number, the reading that matched the newest, and the end of older ones."""
    if not secrets:
        return "-"
    newest, *older = secrets
    parts = [str(len(secrets)), *([newest["reading"]] if newest["reading"] else [])]
    ends = [secret["valid_until"] for secret in older if secret["valid_until"]]
    if ends:
        parts.append(f"older until {in_one_line(max(ends))}")
    return ", ".join(parts)


def _read_secret(source: Source) -> str:
    """Read the secret from standard input; raises UsageError where it cannot be one."""
    from receiver import endpoints

    if sys.stdin.isatty():
        begin_work()  # Ctrl-C at the prompt must bring the terminal's echo back
        text = str(typer.prompt("Signing secret", hide_input=True, err=True))
    else:
        text = _only_line(sys.stdin)
    if (warning := endpoints.check_secret(source, text)) is not None:
        say(warning)
    return text


def _only_line(file: TextIO) -> str:
    """Return the one line of text in a file, whatever ends it; raises UsageError for several."""
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
