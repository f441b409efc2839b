"""The command line: one file for each group of commands; errors are one sentence on stderr.

Exit code 0 on success, 1 when the thing asked for is not so or could not be done now, 2 for wrong
use. Typer itself ends quietly with 130 when interrupted, with 1 when nobody reads our output.
"""

import sys

import typer

from receiver.cli import (
    batch,
    db,
    dead,
    demo,
    endpoint,
    event,
    export,
    prune,
    rejected,
    sandbox,
    serve,
    task,
    token,
)
from receiver.errors import ReceiverError, UsageError
from storage import NoDatabase, NotFound, SecretRefused, StorageError

app = typer.Typer(
    name="resultsink",
    help="Webhook receiver and results sink for AI research batches.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("demo")(demo.demo)
app.command("serve")(serve.serve)
app.command("export")(export.export)
app.command("prune")(prune.prune)
app.command("sandbox")(sandbox.sandbox)
app.add_typer(batch.app, name="batch")
app.add_typer(task.app, name="task")
app.add_typer(endpoint.app, name="endpoint")
app.add_typer(event.app, name="event")
app.add_typer(dead.app, name="dead")
app.add_typer(rejected.app, name="rejected")
app.add_typer(token.app, name="token")
app.add_typer(db.app, name="db")


def main() -> None:
    """Run the command line; ends the process."""
    try:
        app()
    except (UsageError, NoDatabase, NotFound, SecretRefused) as error:
        _end(2, str(error))
    except (ReceiverError, StorageError) as error:
        _end(1, str(error))


def _end(code: int, sentence: str) -> None:
    sys.stderr.write(f"resultsink: {sentence}\n")
    sys.exit(code)
