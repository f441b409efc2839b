"""Every command and every setting that docs/senders*.md name exists."""

import re
import shlex
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer.main

from receiver.cli import app
from receiver.settings import PREFIX, Settings, SourceSettings
from receiver.signatures.overrides import override
from receiver.sources import PROVIDERS

DOCS = Path(__file__).parent.parent / "docs"
TEXTS = {
    str(path.relative_to(DOCS)): path.read_text("utf-8")
    for path in [DOCS / "senders.md", *sorted((DOCS / "senders").glob("*.md"))]
}
EVERY_PAGE = pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())

_COMMAND = re.compile(r"(?:^    |\$\(|`)(resultsink (?:[^`)#\n]|\$\{)*)", re.MULTILINE)


def parse(line: str) -> None:
    """Find the command of this line and have it read its arguments; raises click's errors."""
    words = shlex.split(line.partition("#")[0].rstrip(" &"))[1:]
    group: Any = typer.main.get_command(app)
    while hasattr(group, "commands"):
        assert words, f"{line}: no whole command"
        assert words[0] in group.commands, f"{line}: there is no {words[0]}"
        group = group.commands[words.pop(0)]
    if words != ["--help"]:
        group.make_context(group.name, ["1" if word == "ID" else word for word in words])


@EVERY_PAGE
def test_every_command_line_is_understood(text: str) -> None:
    lines = _COMMAND.findall(text)
    assert lines
    for line in lines:
        parse(line)


@EVERY_PAGE
def test_every_variable_is_a_setting(text: str) -> None:
    for name in set(re.findall(rf"{PREFIX}(\w+)", text)):
        top, *inner = name.lower().split("__")
        assert top in Settings.model_fields, name
        assert top != "sources" or inner[1] in SourceSettings.model_fields, name


def tables(text: str) -> list[str]:
    """What stands in code as `name = value` or in blocks of TOML, one table each."""
    blocks = re.findall(r"^    \[sources\.\w+\]\n((?:    \w+ = .*\n)+)", text, re.MULTILINE)
    cells = re.findall(r"`((?:\w+) = [^`]+)`", text)
    return [block.replace("\n    ", "\n").strip() for block in blocks] + cells


@EVERY_PAGE
def test_every_table_holds_settings_that_there_are(text: str) -> None:
    kinds: list[Any] = list(PROVIDERS.values())
    options = {option.name for kind in kinds for option in fields(kind)}
    for table in tables(text):
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


@EVERY_PAGE
def test_every_link_leads_somewhere(text: str) -> None:
    (page,) = [DOCS / name for name, other in TEXTS.items() if other == text]
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (page.parent / target).is_file(), target
