"""resultsink token: access to the HTTP API for programs."""

from datetime import timedelta
from typing import Annotated

import typer

from receiver.cli.help import Commands
from receiver.cli.opening import existing_store, store_to_fill
from receiver.cli.options import AsJson, Id
from receiver.cli.output import in_one_line, print_json, print_rows, say
from receiver.errors import UsageError

app = Commands(help="Tokens for programs that use the API.")

MAX_NAME = 100


@app.command()
def create(
    name: Annotated[str, typer.Option(help="The program that will use it, for the list.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(
            metavar="read|register",
            help="register: endpoints and secrets; read: ledgers, results. Repeatable.",
        ),
    ] = None,
    source: Annotated[
        str | None, typer.Option("--source", help="Only this source; all without.")
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION", help="Valid so long, such as 90d; until it is revoked without."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a token and print it once; only its digest is kept.

    Example:
        resultsink token create --name ci --scope read --expires 90d
    """
    from receiver.settings import load
    from receiver.sources import configured, named

    scopes = sorted(set(scope or []))
    _refuse(name, scopes)
    lifetime = None if expires is None else _lifetime(expires)
    settings = load()
    if source is not None:
        named(configured(settings), source)
    with store_to_fill(settings) as store:
        token = store.tokens.create(name, scopes, source=source, lifetime=lifetime)
    if as_json:
        known = {"id": token.id, "name": name, "scopes": scopes, "source": source}
        print_json({**known, "expires_at": token.expires_at, "token": token.text})
        return
    typer.echo(token.text)
    end = f" It expires at {in_one_line(token.expires_at)} UTC." if token.expires_at else ""
    say(f"It is not shown again.{end} To end it: resultsink token revoke {token.id}")


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the tokens, newest first, without their text, which is not kept.

    Example:
        resultsink token list
    """
    with existing_store() as store:
        rows = store.tokens.list_all()
    if as_json:
        print_json(rows)
        return
    shown = [{**row, "scopes": " ".join(row["scopes"])} for row in rows]
    columns = ["id", "name", "scopes", "source", "created_at", "expires_at", "revoked_at"]
    print_rows(shown, columns, nothing="There are no tokens yet: see `token create --help`.")


@app.command()
def revoke(token_id: Id) -> None:
    """Revoke a token from now on.

    Example:
        resultsink token revoke 12
    """
    with existing_store() as store:
        store.tokens.revoke(token_id)
    say(f"Token {token_id} opens nothing any more.")


def _refuse(name: str, scopes: list[str]) -> None:
    from receiver.api import SCOPES

    if not (name.strip() and name.isprintable() and len(name) <= MAX_NAME):
        raise UsageError(f"Give --name a name of 1 to {MAX_NAME} printable characters.")
    there = " or ".join(f"--scope {known}" for known in SCOPES)
    for scope in scopes:
        if scope not in SCOPES:
            raise UsageError(f"There is no scope {scope!r}: give {there}, or both.")
    if not scopes:
        raise UsageError(f"Say what the token may do: give {there}, or both.")


def _lifetime(expires: str) -> timedelta:
    from receiver.cli.durations import duration

    lifetime = duration("--expires", expires)
    if not lifetime:
        raise UsageError("--expires 0 would make a token that opens nothing: write it like 90d.")
    return lifetime
