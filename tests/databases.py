"""Databases for the tests, on SQLite and Postgres: opened, and made quickly."""

import base64
import functools
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Literal

import pytest
from sqlalchemy.engine import make_url

import storage
from storage import Store
from tests.postgres import Databases
from tests.restoring import Original

Kind = Literal["sqlite", "postgres"]
KINDS: tuple[Kind, ...] = ("sqlite", "postgres")

KEY = base64.urlsafe_b64encode(b"a key of tests and nothing else!").decode()
"""The key of the secrets in each database on Postgres; beside a file lies its own."""


@functools.cache
def chosen() -> list[Kind]:
    """Return the kinds that RESULTSINK_TEST_DATABASES names, all where it is not set.

    It is read once, before the tests: each of them runs without the settings of the machine.
    """
    named = os.environ.get("RESULTSINK_TEST_DATABASES", " ".join(KINDS)).replace(",", " ").split()
    assert named, "RESULTSINK_TEST_DATABASES names none"
    assert set(named) <= set(KINDS), f"RESULTSINK_TEST_DATABASES names others than {KINDS}"
    return [kind for kind in KINDS if kind in named]


def require(kind: Kind) -> None:
    """Skip the test where this kind is left out."""
    if kind not in chosen():
        pytest.skip(f"needs {kind}, which RESULTSINK_TEST_DATABASES leaves out")


# --- opening ------------------------------------------------------------------------------------


def is_postgres(url: str) -> bool:
    """Return True if a URL, or a store's name, is one of Postgres."""
    return url.startswith("postgresql")


def keys(url: str) -> list[str]:
    """Return the keys that must be given to open it."""
    return [KEY] if is_postgres(url) else []


def settings(url: str) -> dict[str, str]:
    """Return the settings with which a receiver opens it."""
    return {"database_url": url, **({"encryption_keys": KEY} if is_postgres(url) else {})}


def variables(url: str) -> dict[str, str]:
    """Return the settings as variables of the environment."""
    return {f"RESULTSINK_{name.upper()}": value for name, value in settings(url).items()}


def key(store: Store) -> str:
    """Return the key that encrypts its secrets, which lies beside a file."""
    if is_postgres(store.name):
        return KEY
    return Path(store.name).with_suffix(".key").read_text()


@contextmanager
def opened(url: str, *, serve: bool = False) -> Iterator[Store]:
    """Open the store, as the serving process has it or as one beside it."""
    with closing(storage.open(url, keys(url), serve=serve)) as store:
        yield store


def url_of(store: Store) -> str:
    """Return the URL of a store's database."""
    if not is_postgres(store.name):
        return f"sqlite:///{store.name}"
    return Databases.named(make_url(store.name).database or "")


# --- making -------------------------------------------------------------------------------------


class Maker(ABC):
    """Maker of databases with all tables and no row: copies of one that was made before."""

    @abstractmethod
    def make(self, folder: Path) -> str:
        """Return the URL of a new one; a file lies in `folder`, with its key."""

    @abstractmethod
    def bare(self, folder: Path) -> str:
        """Return the URL of one without tables; as a file in `folder` it is not there yet."""

    @abstractmethod
    def drop(self, url: str) -> None:
        """Drop it, or keep it for the next test."""

    @contextmanager
    def made(self, folder: Path) -> Iterator[str]:
        """Make one that lasts to the end of the block."""
        url = self.make(folder)
        try:
            yield url
        finally:
            self.drop(url)


class Files(Maker):
    """Maker of files: copies the database in `template` and its key."""

    def __init__(self, template: Path) -> None:
        self.template = template
        storage.open(f"sqlite:///{template}/resultsink.db").close()

    def make(self, folder: Path) -> str:
        shutil.copytree(self.template, folder, dirs_exist_ok=True)
        return f"sqlite:///{folder}/resultsink.db"

    def bare(self, folder: Path) -> str:
        return f"sqlite:///{folder}/resultsink.db"

    def drop(self, url: str) -> None:
        """Do nothing: files go with their folder."""


class Copies(Maker):
    """Maker on a server: copies a database there, or empties a copy that was used."""

    def __init__(self, databases: Databases) -> None:
        self._databases = databases
        self._template = databases.create()
        storage.upgrade(self._template, [KEY])
        self._original = Original(self._template)
        self._restored: list[str] = []

    def make(self, folder: Path) -> str:
        del folder
        return self._restored.pop() if self._restored else self._databases.create(self._template)

    def bare(self, folder: Path) -> str:
        del folder
        return self._databases.create()

    def drop(self, url: str) -> None:
        if self._original.is_restored(url):
            self._restored.append(url)
        else:
            self._databases.drop(url)

    def close(self) -> None:
        """Drop the one that was copied, and its copies."""
        for url in (self._template, *self._restored):
            self._databases.drop(url)
