"""The tables of README and docs are those of the code, and the README's session is a real one."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import typer.main
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from receiver.api import PREFIX, ROUTES
from receiver.cli import app
from receiver.intake.routes import STATUSES
from receiver.sandbox import Switches, serve_in_thread, switches
from receiver.settings import Settings, SourceSettings
from receiver.signatures.overrides import override
from receiver.signatures.schemes import READINGS, TIMESTAMP_BODY
from storage.export.json import KEYS
from tests.processes import DEADLINE, free_port, serving

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TIME = re.compile(r"[0-9-]{10} [0-9:]{8}|[0-9]+ (?:s|min)\b|job [0-9]+")


def page(name: str) -> str:
    """Return the text of a page in docs."""
    return (ROOT / "docs" / f"{name}.md").read_text("utf-8")


def table(text: str, header: str) -> list[list[str]]:
    """Return the rows of all tables with this header, cells without their backquotes."""
    rows = []
    for part in text.split(f"\n{header}\n")[1:]:
        for line in part.splitlines()[1:]:
            if not line.startswith("|"):
                break
            rows.append([cell.strip().strip("`") for cell in line.strip("|").split("|")])
    assert rows, header
    return rows


def named(cell: str) -> list[str]:
    """Return the names in the first cell of a row, where it has several."""
    return re.split(r"`, `", cell)


# --- tables -------------------------------------------------------------------------------------


def described(model: type[BaseModel]) -> list[list[str]]:
    """Return the fields of a model as a table has them."""
    return [
        [name, written(field.default), field.description or ""]
        for name, field in model.model_fields.items()
    ]


def written(default: Any) -> str:
    if default in (None, [], {}) or default is PydanticUndefined:
        return "none"
    return str(default).lower() if isinstance(default, bool) else str(default)


def test_settings_are_those_of_the_code() -> None:
    expected = described(Settings) + described(SourceSettings)
    assert table(page("settings"), "| setting | default | meaning |") == expected


def test_statuses_are_those_of_the_code() -> None:
    rows = table(page("statuses"), "| outcome | status | when |")
    assert [(row[0], int(row[1])) for row in rows] == list(STATUSES.items())


def test_requests_are_those_of_the_api() -> None:
    rows = table(page("api"), "| request | scope | does |")
    assert [row[:2] for row in rows] == [
        [f"{method} {PREFIX}{path}", scope]
        for path, methods in ROUTES.items()
        for method, (scope, _) in methods.items()
    ]


def test_errors_of_the_api_are_those_of_the_code() -> None:
    rows = table(page("api"), "| status | when |")
    code = "".join(path.read_text("utf-8") for path in (ROOT / "receiver/api").glob("*.py"))
    raised = re.findall(r"(?:Problem\(\s*|\()([45]\d\d), ", code)
    assert {status for row in rows for status in row[0].split(", ")} == set(raised)


def test_keys_are_those_of_a_result() -> None:
    rows = table(page("export"), "| key | holds |")
    assert sorted(key for row in rows for key in named(row[0])) == sorted(KEYS)


def test_signing_settings_are_those_of_the_code() -> None:
    rows = table(page("signing"), "| in `signing` | means |")
    with pytest.raises(ValueError, match="unknown signing setting") as refused:
        override(TIMESTAMP_BODY, {"unknown": ""}, None)
    known = str(refused.value).partition(": use ")[2].split(", ")
    assert sorted(name for row in rows for name in named(row[0])) == sorted(known)


def test_readings_are_those_of_the_code() -> None:
    rows = table(page("signing"), "| reading | the key is |")
    assert sorted(row[0] for row in rows) == sorted(READINGS)


def test_switches_are_those_of_the_sandbox() -> None:
    rows = table(page("sandbox"), "| switch | default | does |")
    assert rows == [list(switch) for switch in switches.described()]


# --- commands -----------------------------------------------------------------------------------


def commands(group: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield every command below a group, with its whole name."""
    if not hasattr(group, "commands"):
        yield prefix, group
        return
    for name, command in group.commands.items():
        yield from commands(command, f"{prefix} {name}")


def usage(command: Any) -> tuple[int, list[str]]:
    """Return how many arguments a command has, and its options."""
    names = [
        name
        for parameter in command.params
        for name in (*parameter.opts, *parameter.secondary_opts)
    ]
    options = sorted(name for name in names if name.startswith("--") and name != "--help")
    return len([name for name in names if not name.startswith("-")]), options


def test_commands_and_options_are_those_of_the_code() -> None:
    rows = table(page("commands"), "| command | arguments and options | does |")
    words = {row[0]: re.findall(r"[^\s`]+", row[1].replace("none", "")) for row in rows}
    documented = {
        name: (
            len([word for word in given if not word.startswith("--")]),
            sorted(word for word in given if word.startswith("--")),
        )
        for name, given in words.items()
    }
    there = commands(typer.main.get_command(app), "resultsink")
    assert documented == {name: usage(command) for name, command in there}


def test_shared_options_exist() -> None:
    there = dict(commands(typer.main.get_command(app), "resultsink"))
    for names, of, _ in table(page("commands"), "| option | of | means |"):
        for command in named(of):
            assert set(named(names)) <= set(usage(there[f"resultsink {command}"])[1]), command


# --- the tree -----------------------------------------------------------------------------------


def test_every_folder_that_the_tree_names_exists() -> None:
    folders = re.findall(r"`(\w[\w/]*)/`", page("tree"))
    assert [folder for folder in folders if not (ROOT / folder).is_dir()] == []


def test_every_package_is_in_the_tree() -> None:
    text = page("tree")
    packages = [
        path.parent.relative_to(ROOT).as_posix()
        for top in ("receiver", "storage")
        for path in (ROOT / top).rglob("__init__.py")
    ]
    assert [package for package in packages if f"`{package}/`" not in text] == []


# --- the README ---------------------------------------------------------------------------------


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 200


def test_the_words_are_ten() -> None:
    assert len(table(README, "| word | meaning |")) == 10


def test_every_page_is_listed() -> None:
    pages = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert pages == set(re.findall(r"\]\((docs/[^)#]+)", README))


def steps(session: str) -> list[tuple[str, str]]:
    """Return the commands of a console block, each with what it prints."""
    parts = re.split(r"^\$ (.*)\n", session, flags=re.MULTILINE)[1:]
    return list(zip(parts[::2], parts[1::2], strict=True))


def same(text: str) -> list[str]:
    """Return lines that are equal from run to run."""
    lines = [_UUID.sub("ID", line.rstrip()) for line in text.splitlines()]
    return [_TIME.sub("TIME", line) for line in lines]


def followed(script: list[str], folder: Path, settings: dict[str, str]) -> list[str]:
    """Run commands in one shell; return what each of them prints."""
    bin_folder = folder / "bin"
    bin_folder.mkdir()
    ours = bin_folder / "resultsink"
    ours.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m receiver "$@"\n')
    ours.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RESULTSINK_")}
    ran = subprocess.run(  # noqa: S603  our own README
        ["/bin/sh", "-ec", "\n".join(["exec 2>&1", *(f"echo '\a'\n{line}" for line in script)])],
        env={**kept, **settings, "PATH": f"{bin_folder}:{kept['PATH']}"},
        cwd=folder,
        capture_output=True,
        timeout=DEADLINE,
        check=False,
    )
    said = ran.stdout.decode()
    assert ran.returncode == 0, said
    return said.split("\a\n")[1:]


@contextmanager
def served(text: str, folder: Path) -> Iterator[dict[str, str]]:
    """Run a sandbox and a receiver by the variables that a text exports; yields them."""
    port = free_port()
    with serve_in_thread(Switches()) as sandbox:
        here = {"127.0.0.1:9009": sandbox.url.removeprefix("http://"), ":8000": f":{port}"}
        settings = {"RESULTSINK_DATABASE_URL": f"sqlite:///{folder}/resultsink.db"}
        for name, value in re.findall(r"^    export (\w+)=(\S+)", text, re.MULTILINE):
            for there, real in here.items():
                value = value.replace(there, real)
            settings[name] = value
        ours = {name.removeprefix("RESULTSINK_").lower(): value for name, value in settings.items()}
        with serving(folder / "receiver.log", ours, port=port):
            yield settings


@pytest.mark.sqlite
def test_the_session_prints_what_it_shows(tmp_path: Path) -> None:
    (session,) = re.findall(r"^```console\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    for line, shown in steps(session)[:2]:
        (tmp_path / line.removeprefix("cat ")).write_text(shown)
    with served(README.partition("```console")[0], tmp_path) as settings:
        printed = followed([line for line, _ in steps(session)], tmp_path, settings)
    for (line, shown), real in zip(steps(session), printed, strict=True):
        assert same(real) == same(shown), line


@pytest.mark.sqlite
def test_serve_is_pointed_at_the_sandbox_as_its_page_says(tmp_path: Path) -> None:
    text = page("sandbox")
    script = re.findall("^    (.+)$", text.partition("and a batch in another:")[2], re.MULTILINE)
    script = script[: script.index(next(line for line in script if " export " in line)) + 1]
    with served(text, tmp_path) as settings:
        printed = followed(script, tmp_path, settings)
    assert "2 of 2 results stored" in printed[-2]
    assert (tmp_path / "results.csv").read_text().count("grid storage") >= 1
