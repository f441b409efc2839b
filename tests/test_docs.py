"""What the README says is compared with the code."""

import re
from pathlib import Path
from typing import Any

import typer.main
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from receiver.api import PREFIX, ROUTES
from receiver.cli import app
from receiver.intake.routes import STATUSES
from receiver.settings import Settings, SourceSettings

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def table(header: str) -> list[list[str]]:
    """The rows of the README's tables with this header, cells without their backquotes."""
    rows = []
    for part in README.split(f"\n{header}\n")[1:]:
        for line in part.splitlines()[1:]:
            if not line.startswith("|"):
                break
            rows.append([cell.strip().strip("`") for cell in line.strip("|").split("|")])
    return rows


def described(model: type[BaseModel]) -> list[list[str]]:
    """The fields of a model as the README's table has them."""
    return [
        [name, written(field.default), field.description or ""]
        for name, field in model.model_fields.items()
    ]


def written(default: Any) -> str:
    if default in (None, [], {}) or default is PydanticUndefined:
        return "none"
    return str(default).lower() if isinstance(default, bool) else str(default)


def commands(group: Any, prefix: str) -> list[str]:
    """Every command below a group, by its whole name."""
    if not hasattr(group, "commands"):
        return [prefix]
    return [
        found
        for name, command in group.commands.items()
        for found in commands(command, f"{prefix} {name}")
    ]


def test_the_settings_are_those_of_the_code() -> None:
    expected = described(Settings) + described(SourceSettings)
    assert table("| setting | default | meaning |") == expected


def test_the_statuses_are_those_of_the_code() -> None:
    rows = table("| outcome | status | when |")
    assert [(row[0], int(row[1])) for row in rows] == list(STATUSES.items())


def test_the_requests_of_the_api_are_those_of_the_code() -> None:
    rows = table("| request | scope | does |")
    assert [row[:2] for row in rows] == [
        [f"{method} {PREFIX}{path}", scope]
        for path, methods in ROUTES.items()
        for method, (scope, _) in methods.items()
    ]


def test_the_commands_are_those_of_the_code() -> None:
    named = [row[0] for row in table("| command | does |")]
    assert sorted(named) == sorted(commands(typer.main.get_command(app), "resultsink"))


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^    )make ([a-z]+)", README, re.MULTILINE)) <= targets


def test_every_file_that_is_named_exists() -> None:
    named = re.findall(r"`((?:receiver|storage|benchmarks)/[\w/]+\.py)`", README)
    assert named
    assert [name for name in named if not (ROOT / name).is_file()] == []
