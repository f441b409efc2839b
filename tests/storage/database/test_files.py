"""The file before it is opened: looking changes nothing, and is in nobody's way."""

import fcntl
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

import storage
from storage import AlreadyServed, CannotOpen, NoDatabase
from storage.database.sqlite.files import claim, is_served, unserved
from storage.database.sqlite.recognition import look
from storage.migrations import HEAD
from storage.migrations.ownership import COLUMNS
from tests.storage import earlier

pytestmark = pytest.mark.sqlite


@contextmanager
def another(path: Path, *statements: str) -> Iterator[sqlite3.Connection]:
    """A connection of another program."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)
        yield connection


def everything(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def sqlite_of_another(path: Path) -> None:
    with another(path, "CREATE TABLE invoices (id)"):
        pass


def alembic_of_another(path: Path) -> None:
    with another(path, "CREATE TABLE alembic_version (version_num)", "CREATE TABLE users (id)"):
        pass


def wal_of_another(path: Path) -> None:
    with another(path, "PRAGMA journal_mode = WAL", "CREATE TABLE invoices (id)"):
        pass


def marked_by_another(path: Path) -> None:
    with another(path, "PRAGMA application_id = 7", "PRAGMA user_version = 3"):
        pass


def our_names_of_another(path: Path) -> None:
    with another(path, *(f"CREATE TABLE {name} (id)" for name in COLUMNS)):
        pass


def text(path: Path) -> None:
    path.write_text("notes")


FOREIGN = (
    sqlite_of_another, alembic_of_another, wal_of_another, marked_by_another, our_names_of_another,
    text,
)  # fmt: skip


@pytest.mark.parametrize("make", FOREIGN)
@pytest.mark.parametrize("serve", [False, True])
def test_foreign_file_is_refused_and_untouched(
    database_url: str, tmp_path: Path, make: Callable[[Path], None], serve: bool
) -> None:
    make(tmp_path / "resultsink.db")
    before = everything(tmp_path)
    with pytest.raises(CannotOpen, match="belongs to another program"):
        storage.open(database_url, serve=serve)
    assert everything(tmp_path) == before


@pytest.mark.parametrize(
    "statements", [["CREATE TABLE invoices (id)"], ["PRAGMA application_id = 7"]]
)
@pytest.mark.parametrize("left", ["-wal -shm", "-wal"])
def test_foreign_file_in_use_is_untouched(tmp_path: Path, statements: list[str], left: str) -> None:
    """Its program ended without a checkpoint: what tells whose it is stands in the log alone."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    with another(tmp_path / "x.db", "PRAGMA journal_mode = WAL", *statements):
        for end in ("", *left.split()):
            shutil.copyfile(tmp_path / f"x.db{end}", folder / f"x.db{end}")
    before = everything(folder)
    with pytest.raises(CannotOpen, match="belongs to another program"):
        storage.open(f"sqlite:///{folder}/x.db", serve=True)
    assert everything(folder) == before


def test_file_of_ours_is_marked(made_url: str, tmp_path: Path) -> None:
    storage.open(made_url).close()
    header = (tmp_path / "resultsink.db").read_bytes()
    assert header[68:72] == b"RSNK"
    assert header[60:64] == bytes(4)  # the user_version is not ours to set


def test_file_of_earlier_version_is_taken_and_marked(database_url: str, tmp_path: Path) -> None:
    earlier.make(database_url)
    (tmp_path / "resultsink.key").write_text(storage.new_key())
    assert storage.upgrade(database_url) == earlier.LAST_AMONG_OTHERS
    assert (tmp_path / "resultsink.db").read_bytes()[68:72] == b"RSNK"


def test_revision_in_wal_alone_is_seen(made_url: str, tmp_path: Path) -> None:
    path = tmp_path / "resultsink.db"
    assert look(path) == HEAD
    with closing(storage.open(made_url)) as store:
        store.probe()
        assert look(path) == HEAD
    with another(tmp_path / "log.db", "PRAGMA journal_mode = WAL", "CREATE TABLE x (y)"):
        assert (tmp_path / "log.db-wal").stat().st_size > 0
        with pytest.raises(CannotOpen, match="another program"):
            look(tmp_path / "log.db")


def test_missing_or_empty_file_has_no_revision(tmp_path: Path) -> None:
    assert look(tmp_path / "none.db") is None
    (tmp_path / "empty.db").touch()
    assert look(tmp_path / "empty.db") is None


def test_current_database_opens_beside_a_writer(made_url: str, tmp_path: Path) -> None:
    writing = another(tmp_path / "resultsink.db", "BEGIN IMMEDIATE")
    with writing, closing(storage.open(made_url)) as store:
        assert store.batches.list_newest() == []


@pytest.mark.usefixtures("impatient")
def test_locked_database_needing_upgrade_is_reported(database_url: str, tmp_path: Path) -> None:
    path = tmp_path / "resultsink.db"
    locked = another(path, "PRAGMA journal_mode = WAL", "BEGIN IMMEDIATE")
    with locked, pytest.raises(CannotOpen) as refusal:
        storage.open(database_url, [storage.new_key()])
    assert str(refusal.value) == (
        f"The database {path} is locked by another program: try again when that has ended."
    )


def test_opening_without_create_makes_nothing(database_url: str, tmp_path: Path) -> None:
    with pytest.raises(NoDatabase, match=r"no database .*resultsink\.db yet: `resultsink serve`"):
        storage.open(database_url, create=False)
    assert list(tmp_path.iterdir()) == []


# --- who serves it ------------------------------------------------------------------------------


@contextmanager
def looking(path: Path) -> Iterator[None]:
    """Somebody looks whether the file is served, and takes its time."""
    lock = os.open(f"{path}.lock", os.O_RDONLY | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_SH)
    try:
        yield
    finally:
        os.close(lock)


def test_readers_are_not_taken_for_servers(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    assert not is_served(path)
    assert list(tmp_path.iterdir()) == []
    with looking(path):
        assert not is_served(path)


def test_start_waits_briefly_for_readers(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    with looking(path):
        locks: list[int] = []
        starting = threading.Thread(target=lambda: locks.append(claim(path)))
        starting.start()
        time.sleep(0.15)
    starting.join()
    assert is_served(path)
    with pytest.raises(AlreadyServed):
        claim(path)
    os.close(locks[0])


# --- changing its tables ------------------------------------------------------------------------


@pytest.mark.parametrize("does", [storage.upgrade, storage.open])
def test_tables_under_server_are_not_changed(
    database_url: str, tmp_path: Path, does: Callable[[str], object]
) -> None:
    """Each command brings the tables up to date, and the server may be of an earlier version."""
    path = tmp_path / "resultsink.db"
    earlier.make(database_url)
    (tmp_path / "resultsink.key").write_text(storage.new_key())
    lock = claim(path)
    before = everything(tmp_path)
    with pytest.raises(AlreadyServed, match="stop `resultsink serve` first"):
        does(database_url)
    assert everything(tmp_path) == before
    os.close(lock)
    assert storage.upgrade(database_url) == earlier.LAST_AMONG_OTHERS


def test_no_server_starts_while_tables_change(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    with unserved(path, "1", "2"), unserved(path, "1", "2"), pytest.raises(AlreadyServed):
        claim(path)
    os.close(claim(path))
