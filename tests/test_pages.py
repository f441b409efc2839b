"""Every command, setting, file, link and make target that a page names exists."""

import re
import shlex
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer.main

from receiver.cli import app
from receiver.settings import PREFIX, RetentionSettings, Settings, SourceSettings
from receiver.signatures.overrides import override
from receiver.sources import PROVIDERS

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in PAGES}
EVERY_PAGE = pytest.mark.parametrize("page", TEXTS)

_COMMAND = re.compile(r"(?:^    |^\$ |\$\(|`)(resultsink (?:[^`)#\n]|\$\{)*)", re.MULTILINE)
_REDIRECTED = re.compile(r"\s(?:2?[<>]|\||&)")


@EVERY_PAGE
def test_a_page_says_first_for_whom_it_is(page: str) -> None:
    title, first = TEXTS[page].split("\n\n", 2)[:2]
    assert title.startswith("# ")
    assert page == "README.md" or first.startswith("For ")


# --- commands -----------------------------------------------------------------------------------


def command_lines(text: str) -> list[str]:
    """Return the commands of ours in blocks and in running text."""
    return [line.strip() for line in _COMMAND.findall(re.sub(r"\\\n +", "", text))]


def parse(line: str) -> None:
    """Find the command of this line and have it read its arguments; raises click's errors.

    A command that is named without arguments only has to exist.
    """
    words = shlex.split(_REDIRECTED.split(line)[0])[1:]
    group: Any = typer.main.get_command(app)
    while hasattr(group, "commands"):
        assert words, f"{line}: no whole command"
        assert words[0] in group.commands, f"{line}: there is no {words[0]}"
        group = group.commands[words.pop(0)]
    if words not in ([], ["--help"]):
        group.make_context(group.name, ["1" if word == "ID" else word for word in words])


@EVERY_PAGE
def test_every_command_line_is_understood(page: str) -> None:
    for line in command_lines(TEXTS[page]):
        parse(line)


def test_command_lines_are_really_found() -> None:
    assert len(command_lines(TEXTS["README.md"])) > 5
    assert any("--deliverable" in line for line in command_lines(TEXTS["docs/tasks.md"]))


@EVERY_PAGE
def test_every_make_target_exists(page: str) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^    )make ([a-z]+)", TEXTS[page], re.MULTILINE)) <= targets


def test_the_two_commands_are_there() -> None:
    commands = re.findall(r"^    (make \w+)", TEXTS["README.md"], re.MULTILINE)
    assert commands == ["make demo", "make test"]


# --- settings -----------------------------------------------------------------------------------


@EVERY_PAGE
def test_every_variable_is_a_setting(page: str) -> None:
    for name in set(re.findall(rf"{PREFIX}(\w+)", TEXTS[page])):
        top, *inner = name.lower().split("__")
        top = top.removesuffix("_file")
        assert top in Settings.model_fields or top == "config", name
        assert top != "sources" or inner[1] in SourceSettings.model_fields, name
        assert top != "retention" or inner[0] in RetentionSettings.model_fields, name


def tables(text: str) -> list[str]:
    """Return what stands in code as `name = value`, and each source in a block of TOML."""
    blocks = re.findall(r"^    \[sources\.\w+\]\n((?:    \w+ = .*\n)+)", text, re.MULTILINE)
    cells = re.findall(r"`((?:\w+) = [^`]+)`", text)
    return [block.replace("\n    ", "\n").strip() for block in blocks] + cells


@EVERY_PAGE
def test_every_table_holds_settings_that_there_are(page: str) -> None:
    kinds: list[Any] = list(PROVIDERS.values())
    options = {option.name for kind in kinds for option in fields(kind)}
    for table in tables(TEXTS[page]):
        settings = tomllib.loads(table)
        assert set(settings) <= set(SourceSettings.model_fields), table
        assert set(settings.get("api", {})) <= options, table
        for name in settings.get("signing", {}):
            with pytest.raises(ValueError, match=f"^signing setting {name}: "):
                override(PROVIDERS["valyu"].scheme, {name: object()}, None)


def test_settings_are_really_found() -> None:
    found = [
        name for text in TEXTS.values() for table in tables(text) for name in tomllib.loads(table)
    ]
    assert {"provider", "api_key", "signing", "api"} <= set(found)


# --- files and links ----------------------------------------------------------------------------


@EVERY_PAGE
def test_every_file_that_is_named_exists(page: str) -> None:
    tops = "receiver|storage|benchmarks|tests|docs"
    named = re.findall(rf"`((?:{tops})/[\w/]+(?:\.py|\.md|/)?)`", TEXTS[page])
    missing = [name for name in named if "NAME" not in name and not (ROOT / name).exists()]
    assert missing == []


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@EVERY_PAGE
def test_every_link_leads_somewhere(page: str) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", TEXTS[page]):
        path, _, anchor = target.partition("#")
        found = (ROOT / page).parent / path
        assert found.is_file(), target
        assert not anchor or anchor in anchors(found.read_text("utf-8")), target
