"""The front door: what it opens, what it refuses, and that a refusal changes nothing."""

import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import storage
from storage import AlreadyServed, CannotOpen, NewerSchema, NoDatabase, WrongKey, new_key

pytestmark = pytest.mark.sqlite


@pytest.fixture
def key_file(made_url: str, tmp_path: Path) -> Path:
    """The key file of a database that was made before."""
    return tmp_path / "resultsink.key"


def opens(url: str, *keys: str) -> None:
    storage.open(url, keys).close()


# --- keys ---------------------------------------------------------------------------------------


def test_new_database_gets_private_key_file(database_url: str, tmp_path: Path) -> None:
    opens(database_url)
    path = tmp_path / "resultsink.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    opens(database_url)


def test_given_keys_need_no_file(database_url: str, tmp_path: Path) -> None:
    key = new_key()
    opens(database_url, key)
    assert not (tmp_path / "resultsink.key").exists()
    opens(database_url, key)


def test_a_wrong_key_is_refused(made_url: str) -> None:
    with pytest.raises(WrongKey, match="does not open this database"):
        opens(made_url, new_key())
    opens(made_url)


def test_foreign_key_file_is_refused(made_url: str, key_file: Path) -> None:
    key_file.write_text(new_key())
    with pytest.raises(WrongKey):
        opens(made_url)


def test_missing_key_file_is_not_replaced(made_url: str, key_file: Path) -> None:
    key_file.unlink()
    with pytest.raises(WrongKey, match="is missing"):
        opens(made_url)
    assert not key_file.exists()


def test_new_key_beside_old_one_opens(made_url: str, key_file: Path) -> None:
    old, new = key_file.read_text(), new_key()
    store = storage.open(made_url, [new, old])
    endpoint = store.endpoints.add("valyu", "run")
    store.endpoints.set_secret(endpoint, "written under the new key")
    store.close()
    with pytest.raises(WrongKey):
        opens(made_url, new)
    opens(made_url, new, old)


def test_empty_file_is_a_new_database(database_url: str, tmp_path: Path) -> None:
    (tmp_path / "resultsink.db").touch()
    opens(database_url)
    assert (tmp_path / "resultsink.key").exists()


# --- other files --------------------------------------------------------------------------------


def make_newer(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()


def test_a_newer_schema_is_refused(made_url: str, tmp_path: Path) -> None:
    make_newer(tmp_path / "resultsink.db")
    with pytest.raises(NewerSchema, match=r"schema 9999.*install the newer"):
        opens(made_url)


def foreign(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE invoices (id INTEGER)")
    connection.close()


def test_foreign_database_is_refused(database_url: str, tmp_path: Path) -> None:
    foreign(tmp_path / "resultsink.db")
    with pytest.raises(CannotOpen, match="another program"):
        opens(database_url, new_key())
    connection = sqlite3.connect(tmp_path / "resultsink.db")
    assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("invoices",)]
    connection.close()


def test_foreign_database_is_left_untouched(database_url: str, tmp_path: Path) -> None:
    path = tmp_path / "resultsink.db"
    foreign(path)
    before = path.read_bytes()
    with pytest.raises(CannotOpen):
        opens(database_url, new_key())
    assert path.read_bytes() == before


def test_non_database_file_is_refused_untouched(database_url: str, tmp_path: Path) -> None:
    path = tmp_path / "resultsink.db"
    path.write_text("these are my notes " * 100)
    with pytest.raises(CannotOpen, match="belongs to another program"):
        opens(database_url, new_key())
    assert path.read_text() == "these are my notes " * 100


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql://localhost/resultsink", "On Postgres the key .* must be given"),
        ("mysql://localhost/resultsink", "'mysql' is not supported"),
        ("resultsink.db", "write sqlite:///FILE"),
        ("", "write sqlite:///FILE"),
        ("sqlite://", "name a file"),
        ("sqlite:///:memory:", "name a file"),
        ("sqlite:///no/such/folder/x.db", "folder .*/no/such/folder does not exist"),
    ],
)
def test_url_without_file_is_refused(url: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(CannotOpen, match=says) as refusal:
        opens(url)
    assert str(refusal.value).endswith(".")
    assert list(tmp_path.iterdir()) == []


def test_refused_url_hides_its_password() -> None:
    with pytest.raises(CannotOpen) as refusal:
        opens("postgresql://user:hunter2@localhost/resultsink")
    assert "hunter2" not in str(refusal.value)


def test_a_folder_is_no_database(tmp_path: Path) -> None:
    with pytest.raises(CannotOpen):
        opens(f"sqlite:///{tmp_path}", new_key())


# --- one serving process ------------------------------------------------------------------------

SERVE = """
import sys, storage
store = storage.open(sys.argv[1], serve=True)
print("open", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def server(made_url: str) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that serves the database."""
    process = subprocess.Popen(  # noqa: S603  our own text
        [sys.executable, "-c", SERVE, made_url], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        yield process
        process.kill()


@pytest.mark.usefixtures("server")
def test_second_server_refused_but_commands_work(made_url: str) -> None:
    with pytest.raises(AlreadyServed, match=r"already serves .*resultsink\.db"):
        storage.open(made_url, serve=True)
    beside = storage.open(made_url)
    assert beside.is_served()
    endpoint = beside.endpoints.add("valyu", "run")
    assert beside.endpoints.find(endpoint) is not None
    beside.close()


def test_killed_server_leaves_database_free(made_url: str, server: subprocess.Popen[bytes]) -> None:
    server.kill()
    server.wait()
    store = storage.open(made_url, serve=True)
    assert store.is_served()
    store.close()


def test_closed_store_is_no_longer_served(made_url: str) -> None:
    storage.open(made_url, serve=True).close()
    beside = storage.open(made_url)
    assert not beside.is_served()
    storage.open(made_url, serve=True).close()
    beside.close()


def test_refusal_releases_the_file(made_url: str) -> None:
    with pytest.raises(WrongKey):
        storage.open(made_url, [new_key()], serve=True)
    storage.open(made_url, serve=True).close()


def test_refused_schema_releases_the_file(made_url: str, tmp_path: Path) -> None:
    make_newer(tmp_path / "resultsink.db")
    for _ in range(2):
        with pytest.raises(NewerSchema):
            storage.open(made_url, serve=True)


def test_reading_with_keys_creates_nothing(database_url: str, tmp_path: Path) -> None:
    with pytest.raises(NoDatabase, match="There is no database"):
        storage.open(database_url, [new_key()], create=False)
    assert list(tmp_path.iterdir()) == []
