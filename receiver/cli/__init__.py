"""The command line: one file or folder for each group of commands; errors are one sentence.

Exit code 0 on success, 1 when something is not so or cannot be done now, 2 for wrong use. Typer
ends with 130 when interrupted, and with 1 when nobody reads the output.

Loading everything takes ten times as long as `--help`. So these modules load no more than they
need to describe their commands, and import the rest inside the functions that use it.
"""

import sys
from typing import Annotated

import typer

from receiver.cli import (
    batch,
    db,
    demo,
    endpoint,
    export,
    prune,
    reconcile,
    sandbox,
    serve,
    task,
    token,
    verify,
)
from receiver.cli.deliveries import dead, event, rejected
from receiver.cli.help import Commands
from receiver.cli.output.terminal import give_up_output, read_as_utf8, take_any_terminal
from receiver.errors import ReceiverError, UsageError

app = Commands(
    name="resultsink",
    help="Webhook receiver and results sink for AI research batches.",
    pretty_exceptions_enable=False,
)
app.command("demo")(demo.demo)
app.command("serve")(serve.serve)
app.command("export")(export.export)
app.command("reconcile")(reconcile.reconcile)
app.command("verify")(verify.verify)
app.command("prune")(prune.prune)
app.command("sandbox", cls=sandbox.WithSwitches)(sandbox.sandbox)
app.add_typer(batch.app, name="batch")
app.add_typer(task.app, name="task")
app.add_typer(endpoint.app, name="endpoint")
app.add_typer(event.app, name="event")
app.add_typer(dead.app, name="dead")
app.add_typer(rejected.app, name="rejected")
app.add_typer(token.app, name="token")
app.add_typer(db.app, name="db")


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        from importlib.metadata import version

        typer.echo(f"resultsink {version('resultsink')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", is_eager=True, callback=_print_version
        ),
    ] = False,
) -> None:
    """Options that stand before a command."""


def main() -> None:
    """Run the command line; ends the process."""
    take_any_terminal()
    try:
        sys.argv[1:] = read_as_utf8(sys.argv[1:])
        app()
    except Exception as error:
        code = _exit_code(error)
        if code is None:
            raise
        sentence = f"{error}"
        if isinstance(error, OSError):
            sentence = f"The system refused: {': '.join(_parts(error))}."
            give_up_output()
        sys.stderr.write(f"resultsink: {sentence}\n")
        sys.exit(code)


def _parts(error: OSError) -> list[str]:
    return [str(part) for part in (error.filename, error.strerror or error) if part]


def _exit_code(error: Exception) -> int | None:
    """Return 2 for wrong use, 1 for what could not be done, None for a fault of this program."""
    if isinstance(error, ReceiverError):
        return 2 if isinstance(error, UsageError) else 1
    if isinstance(error, OSError):  # a full disk behind the output, a file that cannot be written
        return 1
    from storage import NoDatabase, NotFound, SecretRefused, StorageError

    if isinstance(error, NoDatabase | NotFound | SecretRefused):
        return 2
    return 1 if isinstance(error, StorageError) else None
