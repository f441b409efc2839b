"""resultsink rejected: what was refused, and why."""

import typer

from receiver.cli.common import AsJson, Limit, opened, print_json, print_rows

app = typer.Typer(help="Requests that were refused.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keep `list` a command of its own: Typer folds a group of one."""


@app.command("list")
def list_(limit: Limit = 100, as_json: AsJson = False) -> None:
    """List what the quarantine holds, newest first; senders only ever saw a 401."""
    with opened() as store:
        rows = store.list_rejected(limit=limit)
    if as_json:
        print_json(rows)
        return
    columns = ["id", "received_at", "source", "endpoint_id", "reason", "detail", "body_bytes"]
    print_rows(rows, columns, nothing="Nothing was refused.")
