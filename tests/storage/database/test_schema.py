"""Our tables on Postgres have a schema of their own, among those of other programs."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Connection

import storage
from storage import AlreadyServed, CannotOpen, NoDatabase, WrongKey, new_key
from storage.database.postgres import moving
from storage.database.postgres.moving import SERVED_BEFORE
from storage.encryption import CANARY, Vault
from storage.jobs.claims import lock_claims
from tests import behind
from tests.databases import KEY, Maker, opened
from tests.processes import DEADLINE
from tests.storage import earlier
from tests.storage.build import deliver, delivery

pytestmark = pytest.mark.postgres

THEIRS = """
CREATE TABLE public.alembic_version (version_num text);
INSERT INTO public.alembic_version VALUES ('0005');
CREATE TABLE public.meta (name text);
CREATE TABLE public.jobs (id int);
CREATE VIEW public.runs AS SELECT 1;
"""


EVERYTHING = """
SELECT (SELECT array_agg((oid, xmin, relname) ORDER BY oid) FROM pg_class
        WHERE relnamespace = 'public'::regnamespace)::text AS tables,
       (SELECT array_agg((xmin, version_num)) FROM public.alembic_version)::text AS rows
"""


@pytest.fixture
def bare(maker: Maker, tmp_path: Path) -> Iterator[str]:
    url = maker.bare(tmp_path)
    yield url
    maker.drop(url)


def tables(url: str, schema: str) -> set[str]:
    named = "SELECT tablename FROM pg_tables WHERE schemaname = ?"
    return {row["tablename"] for row in behind.execute(url, named, schema)}


def canary(key: str) -> str:
    encrypted = Vault([key]).encrypt(CANARY).decode()
    return f"INSERT INTO meta VALUES ('canary', '{encrypted}')"  # noqa: S608  of our own


RUN = "INSERT INTO runs (source, run_id, status) VALUES ('valyu', 'r', 'queued')"


def test_tables_of_earlier_version_move_with_rows(bare: str) -> None:
    behind.execute(bare, "CREATE TABLE public.theirs (id int)")
    earlier.make(bare, canary(KEY), RUN)
    assert storage.upgrade(bare, [KEY]) == earlier.LAST_AMONG_OTHERS
    assert tables(bare, "public") == {"theirs"}
    assert behind.execute(bare, "SELECT id, run_id FROM resultsink.runs") == [
        {"id": 1, "run_id": "r"}
    ]
    behind.execute(bare, RUN.replace("'r'", "'s'"))
    assert storage.upgrade(bare, [KEY]) == storage.SCHEMA


def test_only_tables_of_that_revision_move(bare: str) -> None:
    behind.execute(bare, "CREATE TABLE public.tokens (id int)")
    earlier.make(bare, revision="0001")
    storage.upgrade(bare, [KEY])
    assert tables(bare, "public") == {"tokens"}
    assert "tokens" in tables(bare, "resultsink")


def test_other_programs_tables_stay_theirs(bare: str) -> None:
    behind.execute(bare, THEIRS)
    before = behind.execute(bare, EVERYTHING)
    with pytest.raises(NoDatabase, match="run `resultsink db upgrade`"):
        storage.open(bare, [KEY])
    assert storage.upgrade(bare, [KEY]) is None
    with opened(bare) as store:
        assert deliver(store, delivery()) == ["accepted"]
    assert behind.execute(bare, EVERYTHING) == before


@pytest.mark.parametrize("does", [storage.upgrade, storage.open])
def test_schema_of_another_program_is_refused(bare: str, does: object) -> None:
    assert callable(does)
    behind.execute(bare, THEIRS)
    with pytest.raises(CannotOpen, match="holds tables of another program: name another schema"):
        does(bare, [KEY], schema="public")
    assert tables(bare, "public") == {"alembic_version", "meta", "jobs"}


def test_tables_under_another_key_are_not_taken(bare: str) -> None:
    earlier.make(bare, canary(new_key()))
    with pytest.raises(WrongKey, match="made with another key"):
        storage.upgrade(bare, [KEY])
    assert tables(bare, "resultsink") == set()


def test_served_tables_are_not_moved(bare: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moving, "STOPPING_SECONDS", 0.0)
    earlier.make(bare, canary(KEY))
    with psycopg.connect(bare) as server:
        server.execute("SELECT pg_advisory_lock_shared(%s, %s)", SERVED_BEFORE)
        with pytest.raises(AlreadyServed, match="stop every `resultsink serve`"):
            storage.upgrade(bare, [KEY])
    assert tables(bare, "resultsink") == set()


def test_tables_of_stopping_server_move(bare: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lock is there for a moment after it has ended."""
    monkeypatch.setattr(moving, "STOPPING_SECONDS", DEADLINE)
    earlier.make(bare, canary(KEY))
    with psycopg.connect(bare) as server:
        server.execute("SELECT pg_advisory_lock_shared(%s, %s)", SERVED_BEFORE)
        monkeypatch.setattr(moving, "sleep", lambda _seconds: server.close())
        assert storage.upgrade(bare, [KEY]) == earlier.LAST_AMONG_OTHERS


# --- rights ---------------------------------------------------------------------------------------


@contextmanager
def as_guest(url: str) -> Iterator[str]:
    """Give the URL for a user who may do nothing yet; its name is `guest`."""
    with suppress(psycopg.errors.DuplicateObject):
        behind.execute(url, "CREATE ROLE guest")
    try:
        yield f"{url}&options=-c%20role%3Dguest"
    finally:
        behind.execute(url, "DROP OWNED BY guest")
        behind.execute(url, "DROP ROLE guest")


def test_missing_right_names_what_to_grant(bare: str) -> None:
    with as_guest(bare) as url:
        with pytest.raises(CannotOpen, match=r"CREATE SCHEMA resultsink AUTHORIZATION guest"):
            storage.upgrade(url, [KEY])
        behind.execute(bare, "CREATE SCHEMA resultsink")
        grant = "GRANT USAGE, CREATE ON SCHEMA resultsink TO guest"
        with pytest.raises(CannotOpen, match=grant):
            storage.upgrade(url, [KEY])
        behind.execute(bare, grant)
        assert storage.upgrade(url, [KEY]) is None
        storage.open(url, [KEY]).close()


def test_tables_of_another_user_are_not_moved(bare: str) -> None:
    earlier.make(bare, "GRANT SELECT ON meta, alembic_version TO PUBLIC")
    with as_guest(bare) as url:
        behind.execute(bare, "CREATE SCHEMA resultsink AUTHORIZATION guest")
        with pytest.raises(CannotOpen, match="belong to another user: run"):
            storage.upgrade(url, [KEY])


# --- side by side ---------------------------------------------------------------------------------


def test_two_installations_share_a_database(bare: str) -> None:
    keys = {"one": new_key(), "two": new_key()}
    for schema, key in keys.items():
        storage.upgrade(bare, [key], schema=schema)
    one = storage.open(bare, [keys["one"]], schema="one", serve=True)
    two = storage.open(bare, [keys["two"]], schema="two")
    try:
        assert (one.is_served(), two.is_served()) == (True, False)
        assert deliver(one, delivery()) == ["accepted"]
        assert len(one.events.list_newest()) == 1
        assert two.events.list_newest() == []
        assert deliver(two, delivery()) == ["accepted"]
    finally:
        one.close()
        two.close()
    with pytest.raises(WrongKey):
        storage.open(bare, [keys["one"]], schema="two")


def test_hints_and_locks_stay_in_the_installation(bare: str) -> None:
    for schema in ("one", "two"):
        storage.upgrade(bare, [KEY], schema=schema)
    one, two, beside = stores = [
        storage.open(bare, [KEY], schema=schema, serve=True) for schema in ("one", "two", "two")
    ]
    heard = {"one": threading.Event(), "two": threading.Event()}

    def claiming(connection: Connection) -> None:
        lock_claims(connection, "valyu")
        two.jobs.claim("valyu", limit=1)  # would wait for the same lock until its limit

    one.listen(heard["one"].set)
    beside.listen(heard["two"].set)
    try:
        one.database.write(claiming)
        two.hint()
        assert heard["two"].wait(30)
        assert not heard["one"].is_set()
    finally:
        for store in stores:
            store.close()
