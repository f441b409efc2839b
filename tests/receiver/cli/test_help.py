"""Manners of every command: `-h`, types in words, 80 columns, an example that works."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from receiver.cli import app
from receiver.sandbox import described
from storage import Store
from tests.processes import DEADLINE
from tests.receiver.cli.conftest import Run

pytestmark = pytest.mark.one_database  # no SQL is at stake


def walk(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every group and command with its words."""
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from walk(inner, (*path, name))


ROOT = typer.main.get_command(app)
ALL = dict(walk(ROOT))
EACH = pytest.mark.parametrize("path", ALL, ids=" ".join)


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")


@EACH
@pytest.mark.usefixtures("narrow")
def test_help_is_whole_and_ends_with_an_example(run: Run, path: tuple[str, ...]) -> None:
    short, long = run(*path, "-h"), run(*path, "--help")
    assert (short.code, short.err, short.out) == (0, "", long.out)
    assert "-h, --help" in short.out
    lines = short.out.rstrip().splitlines()
    assert max(map(len, lines)) <= 80
    assert not [line for line in lines[1:] if line.endswith("...")]
    assert not re.search(r"\b(TEXT|INTEGER|FLOAT|PATH)\b|<\w+>|9223372036854775807", short.out)
    start = max(number for number, line in enumerate(lines) if re.fullmatch("Examples?:", line))
    assert lines[start + 1 :]
    for line in lines[start + 1 :]:
        understood(line)


def understood(line: str) -> None:
    """Find the command of an example, and have it read its arguments."""
    assert line.startswith("  resultsink "), line
    words = shlex.split(re.split(r" [|<>] ", line)[0])[1:]
    group: Any = ROOT
    while hasattr(group, "commands"):
        group = group.commands[words.pop(0)]
    group.make_context(group.name, words)


@EACH
def test_every_value_has_a_word(path: tuple[str, ...]) -> None:
    for parameter in ALL[path].params:
        is_flag = getattr(parameter, "is_flag", False)
        assert is_flag or path == () or parameter.metavar, parameter.name


def test_a_command_of_a_new_group_has_manners_without_effort() -> None:
    from receiver.cli.help import Commands

    new = Commands(help="New.")

    @new.command()
    def look(name: str, since: int = 3, file: Path = Path("out")) -> None:
        """Look at it; see.

        Example:
            resultsink look NAME
        """

    command: Any = typer.main.get_command(new)
    found = command.make_context("new", [], resilient_parsing=True)
    text = command.get_help(found)
    assert re.search(r"\n  --since NUMBER +\[default: 3\]\n  --file FILE +\[default: out\]\n", text)
    assert text.endswith("Example:\n  resultsink look NAME")


def test_an_endpoint_may_begin_with_a_dash_and_h(run: Run, store: Store) -> None:
    sentence = run("endpoint", "close", "-Xh4").sentence
    assert sentence == "There is no open endpoint -Xh4: see `endpoint list`."
    assert "-h, --help" in run("endpoint", "close", "-h").out


@pytest.mark.usefixtures("narrow")
def test_sandbox_lists_its_switches_with_defaults(run: Run) -> None:
    lines = run("sandbox", "--help").out.splitlines()
    for switch in described():
        assert [line for line in lines if line.startswith(f"  {switch.name}={switch.default}")]


# --- completion ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("resultsink ba", ["batch"]),
        ("resultsink batch wait --t", ["--timeout"]),
        ("resultsink export --format js", ["json", "jsonl"]),
        ("resultsink token revoke -", ["-h", "--help"]),
    ],
)
def test_bash_completes(tmp_path: Path, words: str, completed: list[str]) -> None:
    ours = tmp_path / "resultsink"
    start = "import sys; from receiver.__main__ import main; sys.argv[0] = 'resultsink'; main()"
    ours.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{start}" "$@"\n')
    ours.chmod(0o755)
    given = words.split(" ")
    script = f"""
        eval "$({ours} --show-completion bash)"
        COMP_WORDS=({shlex.join(given)}) COMP_CWORD={len(given) - 1}
        _resultsink_completion resultsink
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    bash = shutil.which("bash")
    assert bash is not None
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    found = subprocess.run(  # noqa: S603  our own script
        [bash, "--norc", "-c", script],
        env={**environment, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert (sorted(found.stdout.split()), found.stderr) == (sorted(completed), "")
