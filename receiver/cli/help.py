"""Help of every command: `-h`, types in words, nothing cut, and an example at the end.

`Commands` is what a group is made of. A command's docstring ends with `Example:` and an indented
line or two, which its help shows last; a group's help ends with the example of its first command.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any, TypeVar

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

Function = TypeVar("Function", bound=Callable[..., Any])
Parameter = TyperOption | TyperArgument

HELP_OPTIONS = {"help_option_names": ["--help", "-h"]}

_HUGE = 2**32
"""Limits beyond it are those of a column, and need no word."""

_MARK = "Example:"
_GLUE = "\u00a0"
"""A space at which no line is broken."""


class Command(TyperCommand):
    """A command whose help ends with the example of its docstring."""

    def __init__(self, name: str | None, *, help: str | None = None, **more: Any) -> None:
        text, _, example = (help or "").partition(_MARK)
        super().__init__(name, help=text.rstrip(), **more)
        self.example = inspect.cleandoc(example)
        for parameter in _typed(self):
            parameter.metavar = parameter.metavar or word_for(parameter)

    def make_context(self, *given: Any, **more: Any) -> Any:
        """Read the parameters; a wrong value is named without the words of a library."""
        try:
            return super().make_context(*given, **more)
        except typer.BadParameter as error:
            error.message = error.message.removeprefix("Value error, ")
            raise

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the arguments in the form of other manuals: required ones are bare."""
        arguments = [each for each in self.params if isinstance(each, TyperArgument)]
        return ["[OPTIONS]", *map(_in_usage, arguments)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments and options, and last the example."""
        _write_parameters(self, ctx, formatter)
        self.format_more(formatter)
        _write_example(formatter, self.example)

    def format_more(self, formatter: Any) -> None:
        """Write what stands before the example; a command that needs it overrides this."""

    def get_short_help_str(self, limit: int = 0) -> str:
        """Return the first sentence, whole however long it is."""
        return _summary(self.help)

    def get_help(self, ctx: Any) -> str:
        """Return the help; lines are broken by now."""
        return super().get_help(ctx).replace(_GLUE, " ")


class Group(TyperGroup):
    """A group of commands that shows the first sentence of each whole."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options, the commands, and the example of the first."""
        _write_parameters(self, ctx, formatter)
        self.format_commands(ctx, formatter)
        _write_example(formatter, _first_example(self))

    def get_short_help_str(self, limit: int = 0) -> str:
        """Return the first sentence, whole however long it is."""
        return _summary(self.help)

    def get_help(self, ctx: Any) -> str:
        """Return the help; lines are broken by now."""
        return super().get_help(ctx).replace(_GLUE, " ")


class Commands(typer.Typer):
    """A group of commands that have these manners; without arguments it shows its help."""

    def __init__(self, **more: Any) -> None:
        super().__init__(
            cls=Group,
            no_args_is_help=True,
            context_settings=HELP_OPTIONS,
            rich_markup_mode=None,
            **more,
        )

    def command(
        self, name: str | None = None, *, cls: type[TyperCommand] | None = None, **more: Any
    ) -> Callable[[Function], Function]:
        """Return a decorator that makes a function a command."""
        return super().command(name, cls=cls or Command, **more)


def word_for(parameter: Parameter) -> str | None:
    """Return what to give for a parameter: FILE, NUMBER, its choices, or its own name."""
    kind = parameter.type_descriptor
    if isinstance(parameter, TyperOption) and parameter.is_flag:
        return None
    if kind.choices is not None:
        return "|".join(_plain(choice) for choice in kind.choices)
    if kind.is_path:
        return "FILE"
    if kind.annotation in (int, float):
        return "NUMBER"
    return str(parameter.opts[-1]).lstrip("-").replace("-", "_").upper()


def _write_example(formatter: Any, example: str) -> None:
    """Write an example as it stands: its lines are to be copied."""
    lines = example.splitlines()
    if not lines:
        return
    with formatter.section("Example" if len(lines) == 1 else "Examples"):
        formatter.write("".join(f"  {line}\n" for line in lines))


def _write_parameters(command: Any, context: Any, formatter: Any) -> None:
    arguments = [each for each in command.get_params(context) if isinstance(each, TyperArgument)]
    options = [each for each in command.get_params(context) if isinstance(each, TyperOption)]
    for title, parameters in (("Arguments", arguments), ("Options", options)):
        rows = [_row(each, context) for each in parameters if not each.hidden]
        if rows:
            with formatter.section(title):
                formatter.write_dl(rows)


def _row(parameter: Parameter, context: Any) -> tuple[str, str]:
    """Return how a parameter is written, and what it means."""
    notes = "; ".join(_notes(parameter, context)).replace(" ", _GLUE)
    meaning = f"{parameter.help or ''} {f'[{notes}]' if notes else ''}".strip()
    if isinstance(parameter, TyperArgument):
        return _name(parameter), meaning
    names = " / ".join([", ".join(parameter.opts), *parameter.secondary_opts])
    if parameter.name == "help":
        names = "-h, --help"  # by whichever way `-h` is taken
    return (names if parameter.is_flag else f"{names} {parameter.metavar}"), meaning


def _notes(parameter: Parameter, context: Any) -> Iterator[str]:
    default = parameter.get_default(context, call=False)
    if parameter.required and isinstance(parameter, TyperOption):
        yield "required"
    if default not in (None, False, [], ()) and parameter.show_default:
        is_switch = isinstance(parameter, TyperOption) and parameter.is_flag
        yield f"default: {parameter.opts[0] if is_switch else _plain(default)}"
    least, most = parameter.min, parameter.max
    if most is not None and most < _HUGE:
        yield f"{least or 0} to {most}"


def _plain(value: object) -> str:
    return str(value.value if isinstance(value, Enum) else value)


def _name(argument: TyperArgument) -> str:
    return f"{argument.metavar}{'' if argument.nargs == 1 else '...'}"


def _in_usage(argument: TyperArgument) -> str:
    return _name(argument) if argument.required else f"[{_name(argument)}]"


def _typed(command: TyperCommand) -> Iterator[Parameter]:
    for parameter in command.params:
        if isinstance(parameter, TyperOption | TyperArgument):
            yield parameter


def _summary(help: str | None) -> str:
    """Return the first sentence of a help text, without its stop."""
    first = inspect.cleandoc(help or "").partition("\n\n")[0]
    return " ".join(first.split()).partition(". ")[0].rstrip(".")


def _first_example(command: Any) -> str:
    while isinstance(command, TyperGroup):
        command = next(iter(command.commands.values()))
    return str(command.example)
