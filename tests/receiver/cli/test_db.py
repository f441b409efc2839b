"""resultsink db: exit codes, and sentences that say what to do."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

import storage
from storage.database.postgres import schema as postgres
from storage.database.postgres.names import Names
from tests import behind, databases
from tests.databases import KEY, Copies, Kind, Maker
from tests.receiver.cli.conftest import Run

TEXT = "what the sender signs with"
Configure = Callable[..., None]


@pytest.fixture
def bare_url(maker: Maker, tmp_path: Path, configure: Configure) -> Iterator[str]:
    """A database without tables, which the settings name."""
    url = maker.bare(tmp_path)
    configure(**databases.settings(url))
    yield url
    maker.drop(url)


@pytest.fixture
def made_url(database_url: str, configure: Configure) -> str:
    """A database with all tables, which the settings name."""
    configure(**databases.settings(database_url))
    return database_url


def revision(url: str, said: str) -> None:
    """Make the database say that it has another schema."""
    behind.execute(url, "UPDATE alembic_version SET version_num = ?", said)


# --- upgrade ------------------------------------------------------------------------------------


def test_upgrade_makes_the_tables_once(run: Run, bare_url: str) -> None:
    schema = storage.SCHEMA
    assert run("db", "upgrade").out == f"The schema is {schema} now; it was none.\n"
    assert run("db", "upgrade").out == f"The schema is {schema} already.\n"
    assert json.loads(run("db", "upgrade", "--json").out) == {"before": schema, "now": schema}
    assert run("db", "check").code == 0


@pytest.mark.postgres
def test_upgrade_beside_another_says_so(
    run: Run, bare_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "MIGRATING_SECONDS", 0.1)
    with psycopg.connect(bare_url) as other:
        other.execute(
            "SELECT pg_advisory_xact_lock(%s, %s)", Names(storage.DEFAULT_SCHEMA).migrating
        )
        ended = run("db", "upgrade")
    assert ended.code == 1
    assert "another `db upgrade`" in ended.sentence
    assert "Try again" in ended.sentence


@pytest.mark.postgres
def test_server_upgrade_needs_a_key(run: Run, bare_url: str, configure: Configure) -> None:
    configure(encryption_keys=None)
    ended = run("db", "upgrade")
    assert ended.code == 1
    assert "set RESULTSINK_ENCRYPTION_KEYS to 32 random bytes" in ended.sentence
    configure(encryption_keys="short")
    assert "An encryption key is not valid" in run("db", "upgrade").sentence


def test_upgrade_refuses_a_newer_schema(run: Run, made_url: str) -> None:
    revision(made_url, "9999")
    ended = run("db", "upgrade")
    assert ended.code == 1
    assert "install the newer resultsink again" in ended.sentence


@pytest.mark.sqlite
def test_upgrade_leaves_other_files_alone(run: Run, tmp_path: Path, configure: Configure) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE invoices (id INTEGER)")
    before = path.read_bytes()
    configure(database_url=f"sqlite:///{path}")
    ended = run("db", "upgrade")
    assert (ended.code, path.read_bytes()) == (1, before)
    assert "belongs to another program" in ended.sentence


# --- check --------------------------------------------------------------------------------------


def test_check_says_what_is_there(run: Run, made_url: str) -> None:
    ended = run("db", "check")
    assert ended.code == 0
    assert f"has schema {storage.SCHEMA}, takes writes, and is served by nobody now." in ended.out
    with databases.opened(made_url, serve=True) as store:
        found = {"database": store.name, "schema": storage.SCHEMA, "served": True}
        assert json.loads(run("db", "check", "--json").out) == found


def test_check_makes_no_database(run: Run, bare_url: str) -> None:
    ended = run("db", "check")
    assert ended.code == 1
    assert "There is no database" in ended.sentence or "has no tables" in ended.sentence
    assert not Path("resultsink.db").exists()


@pytest.mark.postgres
def test_check_refuses_an_older_schema(run: Run, made_url: str) -> None:
    revision(made_url, "0001")
    ended = run("db", "check")
    assert ended.code == 1
    assert "run `resultsink db upgrade`" in ended.sentence


def test_check_refuses_another_key(run: Run, made_url: str, configure: Configure) -> None:
    configure(encryption_keys=storage.new_key())
    ended = run("db", "check")
    assert ended.code == 1
    assert "give the key it was made with" in ended.sentence


@pytest.mark.parametrize("command", ["check", "upgrade"])
@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("mysql://localhost/x", "is not supported: write sqlite:///FILE"),
        ("resultsink.db", "is not one: write sqlite:///FILE"),
        ("sqlite:////no/such/folder/x.db", "does not exist: make it first"),
        ("postgresql://user:hunter2@127.0.0.1:1/x", "cannot be opened"),
        ("postgresql://user:p@ss:hunter2/d@h/x", "with %40 for an @"),
        ("postgresql://h:hunter2/x", "is not one: write sqlite:///FILE"),
        ("postgresql://user:x@hunter2@127.0.0.1/x", "more than one @: write %40"),
        ("sqlite://a:hunter2/c", "is not one: write sqlite:///FILE"),
    ],
)
def test_impossible_database_is_one_sentence(
    run: Run, configure: Configure, command: str, url: str, says: str
) -> None:
    configure(database_url=url, encryption_keys=KEY)
    ended = run("db", command)
    assert ended.code == 1
    assert says in ended.sentence
    assert "hunter2" not in ended.err


# --- rekey --------------------------------------------------------------------------------------


def with_secrets(url: str, *keys: str) -> list[str]:
    """Return endpoints, each with a secret under one of these keys."""
    found = []
    for key in keys:
        with closing(storage.open(url, [key, *keys])) as store:
            found.append(store.endpoints.add("valyu", "batch", secret=TEXT))
    return found


def test_rekey_lets_the_old_key_go(run: Run, made_url: str, configure: Configure) -> None:
    with databases.opened(made_url) as store:
        old, new = databases.key(store).strip(), storage.new_key()
    with_secrets(made_url, old, old)
    configure(encryption_keys=f"{new} {old}")
    assert run("db", "rekey").out == (
        "2 of 2 secrets are under the first key, 2 of them by this command; that key alone opens "
        "the database.\n"
    )
    configure(encryption_keys=new)
    assert run("db", "check").code == 0
    printed = json.loads(run("db", "rekey", "--json").out)
    assert printed == {"changed": 0, "readable": 2, "unreadable": [], "forgotten": False}
    configure(encryption_keys=old)
    assert "does not open this database" in run("db", "check").sentence


@pytest.mark.sqlite
def test_key_file_holds_both_keys_meanwhile(run: Run, made_url: str) -> None:
    file = Path(made_url.removeprefix("sqlite:///")).with_suffix(".key")
    old, new = file.read_text(), storage.new_key()
    with_secrets(made_url, old.strip())
    file.write_text(f"{new}\n{old}")
    assert run("db", "rekey").code == 0
    file.write_text(new)
    assert run("endpoint", "list").code == 0
    assert json.loads(run("db", "rekey", "--json").out)["readable"] == 1


@pytest.mark.one_database  # the SQL is tested in storage
def test_rekey_names_unreadable_secrets(run: Run, made_url: str, configure: Configure) -> None:
    with databases.opened(made_url) as store:
        old, lost = databases.key(store).strip(), storage.new_key()
    _, endpoint = with_secrets(made_url, old, lost)
    configure(encryption_keys=old)
    ended = run("db", "rekey")
    assert ended.code == 1
    assert ended.out == "1 of 2 secrets are under the first key, 0 of them by this command.\n"
    assert "No key that is given opens 1 of the secrets: add the missing one" in ended.err
    assert ended.err.endswith(f"Endpoints: {endpoint}.\n")
    ended = run("db", "rekey", "--forget-unreadable")
    assert (ended.code, ended.out[:6]) == (0, "1 of 1")
    assert json.loads(run("endpoint", "list", "--json").out)[0]["state"] == "pending"


@pytest.mark.one_database  # the SQL is tested in storage
def test_rekey_beside_server_says_how_to_go_on(
    run: Run, made_url: str, configure: Configure
) -> None:
    """The server was started with the old key first: what it adds later is under that one."""
    with databases.opened(made_url) as store:
        old, new = databases.key(store).strip(), storage.new_key()
    with closing(storage.open(made_url, [old, new], serve=True)) as server:
        configure(encryption_keys=f"{new} {old}")
        ended = run("db", "rekey")
        server.endpoints.add("valyu", "batch", secret=TEXT)
    assert ended.out == "0 of 0 secrets are under the first key, 0 of them by this command.\n"
    assert "start it with the new key first and the old one after it, and run this" in ended.err
    assert run("db", "rekey").out.startswith("1 of 1 secrets are under the first key, 1 of them")
    configure(encryption_keys=new)
    assert json.loads(run("db", "rekey", "--json").out)["readable"] == 1


# --- copy ---------------------------------------------------------------------------------------


@pytest.fixture
def target(request: pytest.FixtureRequest, tmp_path: Path, made_url: str) -> Iterator[str]:
    """An empty database of the other kind than the source's."""
    kinds: dict[bool, Kind] = {True: "sqlite", False: "postgres"}
    if kinds[databases.is_postgres(made_url)] == "sqlite" or "postgres" not in databases.chosen():
        yield f"sqlite:///{tmp_path}/target.db"
        return
    copies: Copies = request.getfixturevalue("copies")
    url = copies.bare(tmp_path)
    yield url
    copies.drop(url)


def test_copy_prints_tables_and_settings(
    run: Run, made_url: str, target: str, configure: Configure
) -> None:
    configure(encryption_keys=KEY)
    with closing(storage.open(made_url, databases.keys(made_url))) as store:
        store.tokens.create("ci", ["read"])
    ended = run("db", "copy", made_url, target)
    assert (ended.code, ended.err) == (0, "")
    assert ["tokens", "1", "yes", "0"] in [line.split() for line in ended.out.splitlines()]
    assert "RESULTSINK_DATABASE_URL to" in ended.out
    assert "RESULTSINK_ENCRYPTION_KEYS to" in ended.out
    assert KEY not in ended.out
    with closing(storage.open(target, [KEY])) as store:
        assert [token["name"] for token in store.tokens.list_all()] == ["ci"]


def test_copy_says_the_same_to_programs(
    run: Run, made_url: str, target: str, configure: Configure
) -> None:
    configure(encryption_keys=KEY)
    printed = json.loads(run("db", "copy", made_url, target, "--json").out)
    assert printed["set"] == ["RESULTSINK_DATABASE_URL", "RESULTSINK_ENCRYPTION_KEYS"]
    assert (printed["running"], printed["key_file"]) == (0, None)
    assert {"table": "events", "rows": 0, "verified": True, "cleaned": 0} in printed["tables"]


def test_copy_names_the_variable_of_the_keys(
    run: Run, made_url: str, target: str, tmp_path: Path, configure: Configure
) -> None:
    (tmp_path / "keys").write_text(KEY)
    configure(encryption_keys=None, encryption_keys_file=str(tmp_path / "keys"))
    printed = json.loads(run("db", "copy", made_url, target, "--json").out)
    assert printed["set"] == ["RESULTSINK_DATABASE_URL", "RESULTSINK_ENCRYPTION_KEYS_FILE"]


def test_copy_names_the_file_of_the_keys(
    run: Run, made_url: str, target: str, configure: Configure
) -> None:
    Path("resultsink.toml").write_text(f'encryption_keys = ["{KEY}"]')
    configure(encryption_keys=None)
    said = run("db", "copy", made_url, target).out
    assert "RESULTSINK_ENCRYPTION_KEYS to what encryption_keys in resultsink.toml is now" in said


@pytest.mark.sqlite
def test_copy_names_the_key_file(run: Run, made_url: str, target: str) -> None:
    ended = run("db", "copy", made_url, target)
    key = Path(made_url.removeprefix("sqlite:///")).with_suffix(".key")
    assert ended.code == 0
    assert key.read_text().strip() not in ended.out
    if databases.is_postgres(target):
        assert f"RESULTSINK_ENCRYPTION_KEYS_FILE to {key}" in ended.out
        with closing(storage.open(target, [key.read_text()])) as store:
            assert store.tokens.list_all() == []


@pytest.mark.sqlite
def test_copy_between_files_sets_only_the_url(run: Run, made_url: str, tmp_path: Path) -> None:
    printed = json.loads(run("db", "copy", made_url, f"sqlite:///{tmp_path}/b.db", "--json").out)
    assert printed["set"] == ["RESULTSINK_DATABASE_URL"]


def test_copy_of_a_served_database_is_refused(
    run: Run, made_url: str, target: str, configure: Configure
) -> None:
    configure(encryption_keys=KEY)
    with databases.opened(made_url, serve=True):
        ended = run("db", "copy", made_url, target)
    assert ended.code == 1
    assert "stop `resultsink serve`" in ended.sentence


def test_copy_needs_an_empty_target(run: Run, made_url: str, target: str) -> None:
    with databases.opened(made_url) as store:
        store.tokens.create("ci", ["read"])
    source = f"sqlite:///{Path.cwd()}/another.db"
    storage.open(source).close()
    ended = run("db", "copy", source, made_url)
    assert ended.code == 1
    assert "is not empty" in ended.sentence or "made with another key" in ended.sentence


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ([], 2, "Missing argument 'SOURCE_URL'"),
        (["sqlite:///a.db"], 2, "Missing argument 'TARGET_URL'"),
        (["sqlite:///a.db", "sqlite:///b.db"], 2, "There is no database"),
        (["sqlite:///a.db", "sqlite:///a.db"], 1, "are the same database"),
        (["a.db", "sqlite:///b.db"], 1, "is not one: write sqlite:///FILE"),
        (["sqlite:///a.db", "mysql://x/y"], 1, "is not supported"),
        (["sqlite://", "sqlite:///b.db"], 1, "name a file"),
        (["sqlite:///a.db", "sqlite:////no/such/b.db"], 1, "does not exist: make it first"),
        (["postgresql://u:hunter2@127.0.0.1:1/x", "sqlite:///b.db"], 1, "cannot be opened"),
    ],
)
def test_impossible_copy_is_one_sentence(
    run: Run, arguments: list[str], code: int, says: str
) -> None:
    ended = run("db", "copy", *arguments)
    assert (ended.code, ended.out) == (code, "")
    assert says in ended.err
    assert "hunter2" not in ended.err
    assert list(Path.cwd().iterdir()) == []
