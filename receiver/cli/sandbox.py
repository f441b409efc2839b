"""resultsink sandbox: the simulated senders alone, for users' own tests."""

from typing import Annotated, Any

import typer

from receiver.cli.help import Command
from receiver.cli.opening import begin_work
from receiver.cli.output import say
from receiver.errors import UsageError


class WithSwitches(Command):
    """The command whose help lists the switches of the sandbox; they are loaded for that alone."""

    def format_more(self, formatter: Any) -> None:
        """Write every switch with its default, as `--set` takes it."""
        from receiver.sandbox import described

        with formatter.section("Switches, with their defaults"):
            formatter.write_dl(
                [(f"{each.name}={each.default}", each.meaning) for each in described()]
            )


def sandbox(
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="An address of this machine only.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 9009,
    turned: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="Set a switch, to JSON or plain text. Repeatable."
        ),
    ] = None,
) -> None:
    """Run simulated senders on this machine, which send real webhooks for your test batches.

    Example:
        resultsink sandbox --set duration=5 --set failing_tasks=2
    """
    from receiver.sandbox import SandboxError, Switches, run
    from receiver.sandbox.switches import assignments, parse

    begin_work()
    try:
        switches = parse(Switches, assignments(turned or []))
        run(host, port, switches, started=_say_where)
    except SandboxError as error:
        text = str(error).rstrip(".")
        raise UsageError(f"{text[:1].upper()}{text[1:]}.") from None


def _say_where(url: str) -> None:
    say(f"Valyu is played at {url}/v1 (any API key that begins with val_).")
    say(f"Parallel is played at {url} (any API key).")
