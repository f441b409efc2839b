"""Variables and files that the settings are read from."""

import os
import re
import tomllib
from collections.abc import Iterator, Set
from pathlib import Path
from typing import Any

from receiver.errors import UsageError
from receiver.settings.source import SourceSettings
from receiver.settings.unknown import PREFIX, variable_meant
from receiver.text_files import read_text

# What Kubernetes and Docker set beside a service that is called resultsink: no setting of ours.
_LINKS = re.compile(r"resultsink_(service_(host|port)(_\w+)?|port(_\d+_(tcp|udp)(_\w+)?)?)")

# A file that is looked at again and again is a setting of its own, not the value of another.
_WATCHED = re.compile(rf"{PREFIX}SOURCES__.+__SIGNING_SECRETS_FILE", re.IGNORECASE)


def settings_in_file() -> dict[str, Any]:
    """Return what resultsink.toml, or the file that RESULTSINK_CONFIG names, holds.

    Raises UsageError where it cannot be read, or is missing though it is named.
    """
    named = os.environ.get("RESULTSINK_CONFIG")
    path = Path(named or "resultsink.toml")
    if named is None and not path.exists():
        return {}
    if not path.exists():
        raise UsageError(f"The settings file {path} does not exist.")
    try:
        return tomllib.loads(read_text(path).text)
    except UsageError as error:
        raise UsageError(f"The settings cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"The settings cannot be read: {path} is no TOML: {error}.") from None


def variable_of(setting: str) -> str | None:
    """Return the variable that a setting comes from, None if it comes from none."""
    plain = PREFIX + setting.upper()
    return next((name for name in (f"{plain}_FILE", plain) if name in os.environ), None)


def refuse_unknown(fields: Set[str]) -> None:
    """Raise UsageError for a misspelt variable, which would silently change nothing."""
    for name in _variables():
        setting = name.removeprefix(PREFIX).lower()
        if setting == "config" or setting.startswith(("sources__", "retention__")):
            continue
        if setting.removesuffix("_file") not in fields:
            top, of_sources = [*fields, "config"], SourceSettings.model_fields
            meant = variable_meant(setting, top=top, of_sources=of_sources)
            meant = meant or "one of those in docs/settings.md"
            raise UsageError(f"There is no setting {name}: write {meant}, or take it away.")


def values_in_files() -> dict[str, str]:
    """Read the variables given as ..._FILE, by the name that they stand for; raises UsageError."""
    values = {}
    for name in _variables():
        if name.endswith("_FILE") and not _WATCHED.fullmatch(name):
            try:
                value = read_text(Path(os.environ[name])).text.strip()
            except UsageError as error:
                raise UsageError(f"The file that {name} names cannot be read: {error}") from None
            if not value:
                raise UsageError(f"The file that {name} names is empty: {os.environ[name]}.")
            values[name.removesuffix("_FILE").lower()] = value
    return values


def _variables() -> Iterator[str]:
    """Give the names of our variables; those that begin with RESULTSINK_TEST_ are for tests."""
    for name, value in os.environ.items():
        is_link = _LINKS.fullmatch(name.lower()) and (
            name.upper() != f"{PREFIX}PORT" or "://" in value
        )
        if name.startswith(PREFIX) and not name.startswith(f"{PREFIX}TEST_") and not is_link:
            yield name
