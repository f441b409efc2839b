"""resultsink sandbox: the simulated senders alone, for users' own tests."""

from typing import Annotated

import typer

from receiver.cli.output import errors
from receiver.errors import UsageError


def sandbox(
    host: Annotated[str, typer.Option(help="An address of this machine only.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 9009,
    turned: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Set a switch; can be repeated."),
    ] = None,
) -> None:
    """Run simulated senders on this machine, which send real webhooks for your test batches."""
    # Loaded here, because all other commands start without it.
    from receiver.sandbox import SandboxError, Switches, run
    from receiver.sandbox.switches import assignments, parse

    try:
        switches = parse(Switches, assignments(turned or []))
        run(host, port, switches, started=_tell)
    except SandboxError as error:
        text = str(error).rstrip(".")
        raise UsageError(f"{text[:1].upper()}{text[1:]}.") from None


def _tell(url: str) -> None:
    errors.print(f"Valyu is played at {url}/v1 (any API key that begins with val_).")
    errors.print(f"Parallel is played at {url} (any API key).")
