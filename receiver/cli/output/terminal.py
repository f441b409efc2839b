"""Arguments and output where the terminal or the locale is not UTF-8."""

import io
import os
import sys
from contextlib import suppress

from receiver.errors import UsageError


def take_any_terminal() -> None:
    """Write what the terminal has no letters for as escapes, such as `\\xfc`, on both streams.

    A stream that is closed, as by `>&-`, takes everything and keeps nothing.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  until the process ends
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def give_up_output() -> None:
    """Forget what standard output could not take: the end of the process would try it again."""
    with suppress(OSError):
        sys.stdout.flush()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  until the process ends


def read_as_utf8(arguments: list[str]) -> list[str]:
    """Return the arguments as they were typed, also where the locale is C.

    The names of files stay as the system knows them. Raises UsageError for what is not UTF-8.
    """
    return [_as_utf8(argument) for argument in arguments]


def _as_utf8(argument: str) -> str:
    value = argument.partition("=")[2] if argument.startswith("--") else argument
    if argument.isascii() or os.path.exists(value):
        return argument
    try:
        return os.fsencode(argument).decode()
    except ValueError:
        raise UsageError(f"The argument {argument!a} is not UTF-8: write it in UTF-8.") from None
