"""Growing from one database to another: everything arrives, or nothing, and nobody is disturbed."""

import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import storage
from storage import (
    AlreadyServed,
    CannotOpen,
    CannotStore,
    CopyFailed,
    CopyReport,
    NewerSchema,
    NoDatabase,
    Store,
    WrongKey,
    jobs,
    new_key,
)
from storage.deliveries.quarantine import UnverifiedDelivery
from storage.encryption import Vault
from tests import databases
from tests.databases import KEY, Copies, Files, Kind
from tests.storage import rows as random_rows
from tests.storage.build import contents, deliver, delivery, run

Make = Callable[..., str]
"""`make(kind)`: a database with all tables and no row; `bare=True`: one without tables."""

PAIRS: list[tuple[Kind, Kind]] = [
    ("sqlite", "postgres"),
    ("postgres", "sqlite"),
    ("sqlite", "sqlite"),
    ("postgres", "postgres"),
]


@pytest.fixture
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """Makes databases, each in a folder of its own, for as long as the test lasts.

    A target that is to have the keys that are given has no canary of another key yet: it is bare.
    """
    made: list[str] = []

    def make(kind: Kind, *, bare: bool = False) -> str:
        databases.require(kind)
        maker: Files | Copies = request.getfixturevalue(
            {"sqlite": "files", "postgres": "copies"}[kind]
        )
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(maker.bare(folder) if bare else maker.make(folder))
        return made[-1]

    yield make
    for url in filter(databases.is_postgres, made):
        copies: Copies = request.getfixturevalue("copies")
        copies.drop(url)


def new(make: Make, source: Kind, target: Kind, *, bare: bool = False) -> str:
    """A target for a source of this kind, whose keys must be given if it is a server."""
    return make(target, bare=bare or (source, target) == ("postgres", "sqlite"))


def folder_of(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///")).parent


def keys(*urls: str) -> list[str]:
    """The arguments that copying between these needs."""
    return [KEY] if any(map(databases.is_postgres, urls)) else []


def copied(source: str, target: str) -> CopyReport:
    return storage.copy(source, target, keys(source, target))


def opened(url: str, given: list[str]) -> closing[Store]:
    return closing(storage.open(url, given))


def fill(url: str) -> str:
    """Something in most tables, by the store's own verbs; returns an endpoint that has a secret."""
    with databases.opened(url) as store:
        endpoint = store.endpoints.add("valyu", "batch", resource="batch-1")
        store.endpoints.set_secret(endpoint, "whsec_kept")
        deliver(store, delivery("event-1", b"\x00\xff body"), delivery("event-2", headers="é: ü\n"))
        deliver(store, delivery("event-1", b"another body"))
        (lease, *_) = store.jobs.claim("valyu", limit=1)
        page = [run("run-1", output={"z": 1, "a": [1.5, None, "\N{SNOWMAN}"]}, sources=[{"b": 2}])]
        store.results.store(lease, page, fetched_at=store.now(), progress={"batch": "b-1"})
        store.quarantine.keep(
            UnverifiedDelivery("valyu", None, "signature", "wrong", "a: b\n", b"forged")
        )
        store.tokens.create("ci", ["read"], source=None)
        return endpoint


def is_own(key: str) -> bool:
    return key == "canary" or key.startswith("probe")


def everything(url: str, given: list[str]) -> dict[str, list[tuple[Any, ...]]]:
    """All rows but each database's own, with the secrets' texts in the place of what hides them."""
    vault = Vault(given or [(folder_of(url) / "resultsink.key").read_text()])
    with opened(url, given) as store:
        found = contents(store.database)
    return {
        "meta": [tuple(row) for row in found.pop("meta") if not is_own(row[0])],
        "secrets": [
            tuple({**row._mapping, "ciphertext": vault.decrypt(row.ciphertext)}.values())
            for row in found.pop("secrets")
        ],
        **{name: [tuple(row) for row in rows] for name, rows in found.items()},
    }


# --- everything arrives -------------------------------------------------------------------------


@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize(("source_kind", "target_kind"), PAIRS)
def test_everything_arrives(make: Make, source_kind: Kind, target_kind: Kind, bare: bool) -> None:
    source, target = make(source_kind), new(make, source_kind, target_kind, bare=bare)
    fill(source)
    report = copied(source, target)
    before = everything(source, databases.keys(source))
    assert everything(target, keys(source, target)) == before
    assert {table.table: table.rows for table in report.tables} == {
        name: len(rows) for name, rows in before.items()
    }
    assert before["secrets"]
    assert len(before["deliveries"]) == 3


@pytest.mark.parametrize(("source_kind", "target_kind"), PAIRS)
def test_new_rows_after_copy_collide_with_nothing(
    make: Make, source_kind: Kind, target_kind: Kind
) -> None:
    source, target = make(source_kind), new(make, source_kind, target_kind)
    endpoint = fill(source)
    copied(source, target)
    with opened(target, keys(source, target)) as store:
        before = contents(store.database)
        store.endpoints.set_secret(endpoint, "whsec_next")
        assert deliver(store, delivery("event-1", b"another body"), delivery("event-3")) == [
            "duplicate",
            "accepted",
        ]
        store.tokens.create("next", ["read"], source=None)
        after = contents(store.database)
    for table in ("secrets", "events", "deliveries", "jobs", "tokens"):
        assert [row.id for row in after[table]][:-1] == [row.id for row in before[table]]
        assert len(after[table]) == len(before[table]) + 1


def test_running_jobs_are_released_after_copy(make: Make) -> None:
    source, target = make("sqlite"), make("postgres")
    fill(source)
    assert copied(source, target).running == 1
    with opened(target, [KEY]) as store:
        late = store.now() + timedelta(seconds=storage.LEASE_SECONDS + 1)
        assert store.database.write(lambda c: jobs.release(c, now=late)) == 1


def test_an_empty_database_is_copied_too(make: Make) -> None:
    report = copied(make("sqlite"), make("postgres", bare=True))
    assert {table.rows for table in report.tables} == {0}


@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_random_contents_survive_both_ways(make: Make, data: Any) -> None:
    there = make("postgres")
    with tempfile.TemporaryDirectory() as folder:
        first, last = (f"sqlite:///{folder}/{name}.db" for name in ("first", "last"))
        drawn = data.draw(random_rows.ROWS)
        with opened(first, [KEY]) as store:
            store.database.write(lambda c: random_rows.insert(c, drawn, Vault([KEY])))
        copied(first, there)
        copied(there, f"sqlite:///{folder}/last.db")
        assert everything(last, [KEY]) == everything(first, [KEY])


def sql(url: str, statement: str, *given: Any) -> None:
    """Run a statement beside the store, as another program would."""
    if databases.is_postgres(url):
        with psycopg.connect(url) as server:
            server.execute(statement.replace("?", "%s").encode(), given)
        return
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as file:
        file.execute(statement, given)
        file.commit()


@pytest.mark.parametrize(
    "text",
    ['{"z": 1.0, "a": 1e22, "\\u00e9": [1, 1.50]}', "1.50", "1e400", str(2**70), "-0.0", '"7"'],
)
def test_document_keeps_order_and_spelling(make: Make, text: str) -> None:
    source, target, back = make("sqlite"), make("postgres"), make("sqlite", bare=True)
    sql(
        source,
        "INSERT INTO runs (source, run_id, status, input, waits_for)"
        " VALUES ('v', 'r', 'queued', ?, ?)",
        *(text, text),
    )
    copied(source, target)
    copied(target, back)
    with closing(sqlite3.connect(back.removeprefix("sqlite:///"))) as file:
        assert file.execute("SELECT input, waits_for FROM runs").fetchall() == [(text, text)]


# --- what Postgres refuses ----------------------------------------------------------------------


def an_old_file(url: str) -> None:
    """Text that could be stored before it was cleaned."""
    sql(
        url,
        "INSERT INTO events (source, key, key_digest, disposition, received_at) VALUES "
        "('valyu', 'a' || char(0) || 'b' || CAST(x'eda080' AS TEXT), x'00', 'fetch', "
        "'2026-10-05 12:00:00.000000')",
    )
    sql(
        url,
        "INSERT INTO batches (source, batch_id, state, submitted, created_at, counts) VALUES "
        "('valyu', 'b', 'open', 0, '2026-10-05 12:00:00.000000', ?)",
        '{"nul": "\\u0000", "half": "\\ud800", "whole": "\\ud83d\\ude00", "nan": [NaN, -Infinity]}',
    )
    sql(
        url,
        "INSERT INTO runs (source, run_id, status, input) VALUES ('v', 'r', 'queued', ?)",
        '{"word": "NaN", "escape": "\\\\u0000"}',
    )


def test_text_refused_by_postgres_is_cleaned(make: Make) -> None:
    source, target = make("sqlite"), make("postgres")
    an_old_file(source)
    report = copied(source, target)
    cleaned = {table.table: table.cleaned for table in report.tables if table.cleaned}
    assert cleaned == {"events": 1, "batches": 1}
    with psycopg.connect(target) as server:
        assert server.execute("SELECT key FROM events").fetchall() == [("a�b���",)]
        ((counts,),) = server.execute("SELECT counts FROM batches").fetchall()
        ((given,),) = server.execute("SELECT input::text FROM runs").fetchall()
    assert counts == {"nul": "�", "half": "�", "whole": "\U0001f600", "nan": [None, None]}
    assert given == '{"word": "NaN", "escape": "\\\\u0000"}'


# --- keys ---------------------------------------------------------------------------------------


def secret(url: str, endpoint: str, *given: str) -> str:
    with opened(url, list(given)) as store:
        found = store.endpoints.find(endpoint)
    assert found is not None
    return found.secrets[0].text


def test_first_given_key_opens_the_copy(make: Make) -> None:
    source, target = make("sqlite"), make("postgres", bare=True)
    endpoint = fill(source)
    first, second = new_key(), new_key()
    report = storage.copy(source, target, [first, second])
    assert (report.key_file, report.is_key_beside) == (None, False)
    assert secret(target, endpoint, first) == "whsec_kept"
    with pytest.raises(WrongKey):
        storage.open(target, [second])


def test_postgres_takes_key_file_of_source(make: Make) -> None:
    source, target = make("sqlite"), make("postgres", bare=True)
    endpoint = fill(source)
    report = storage.copy(source, target)
    assert report.key_file == folder_of(source) / "resultsink.key"
    assert secret(target, endpoint, report.key_file.read_text()) == "whsec_kept"


def test_file_target_gets_its_own_key(make: Make) -> None:
    source, target = make("sqlite"), make("sqlite", bare=True)
    endpoint = fill(source)
    report = storage.copy(source, target)
    assert report.is_key_beside
    own, other = (folder_of(url) / "resultsink.key" for url in (target, source))
    assert (report.key_file, own.stat().st_mode & 0o777) == (own, 0o600)
    assert own.read_text() != other.read_text()
    assert secret(target, endpoint) == "whsec_kept"


def test_secrets_under_several_keys_need_all(make: Make) -> None:
    source, target = make("sqlite"), make("postgres", bare=True)
    newer = new_key()
    with opened(source, [newer, (folder_of(source) / "resultsink.key").read_text()]) as store:
        endpoint = store.endpoints.add("valyu", "run")
        store.endpoints.set_secret(endpoint, "under the newer key")
    with pytest.raises(WrongKey, match=r"all of them, in RESULTSINK_ENCRYPTION_KEYS\.$"):
        storage.copy(source, target)
    storage.copy(source, target, [new_key(), newer])


# --- refusals -----------------------------------------------------------------------------------


@pytest.fixture
def refused(make: Make) -> Callable[..., str]:
    """Copies, and returns why not; neither side is changed, nor held afterwards."""

    def refused(source: str, target: str, given: list[str] | None = None, *, by: Any) -> str:
        with pytest.raises(by) as refusal:
            storage.copy(source, target, keys(source, target) if given is None else given)
        sentence = str(refusal.value)
        assert sentence.endswith(".")
        assert sentence.count(". ") == 0, sentence
        return sentence

    return refused


KINDS: tuple[Kind, ...] = databases.KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_served_source_is_refused(make: Make, refused: Callable[..., str], kind: Kind) -> None:
    source, target = make(kind), new(make, kind, "sqlite")
    with databases.opened(source, serve=True):
        sentence = refused(source, target, by=AlreadyServed)
    assert "is served now: stop `resultsink serve`, and start it again on the target" in sentence
    copied(source, target)


@pytest.mark.parametrize("kind", KINDS)
def test_served_target_is_refused(make: Make, refused: Callable[..., str], kind: Kind) -> None:
    source, target = make("sqlite"), make(kind)
    with databases.opened(target, serve=True):
        assert "is served now: stop" in refused(source, target, by=AlreadyServed)
    copied(source, target)


@pytest.mark.parametrize("kind", KINDS)
def test_missing_source_is_refused(make: Make, refused: Callable[..., str], kind: Kind) -> None:
    source, target = make(kind, bare=True), make("sqlite")
    assert "There is no database " in refused(source, target, by=NoDatabase)
    if kind == "sqlite":
        assert list(folder_of(source).iterdir()) == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("revision", "by"), [("0001", CannotOpen), ("9999", NewerSchema)])
@pytest.mark.parametrize("is_source", [True, False])
def test_foreign_schema_version_is_refused(
    make: Make, refused: Callable[..., str], kind: Kind, revision: str, by: Any, is_source: bool
) -> None:
    other, fine = make(kind), make("sqlite")
    sql(other, "UPDATE alembic_version SET version_num = ?", revision)
    source, target = (other, fine) if is_source else (fine, other)
    sentence = refused(source, target, by=by)
    assert f"has schema {revision}" in sentence
    assert ("run `resultsink db upgrade`" in sentence) == (revision == "0001")


@pytest.mark.parametrize("kind", KINDS)
def test_foreign_program_as_target_is_refused(
    make: Make, refused: Callable[..., str], kind: Kind
) -> None:
    source, target = make("sqlite"), make(kind, bare=True)
    if kind == "postgres":
        sql(target, "CREATE SCHEMA resultsink")
    sql(target, "CREATE TABLE invoices (id INTEGER)")
    assert "another program" in refused(source, target, by=CannotOpen)


@pytest.mark.parametrize("kind", KINDS)
def test_filled_target_is_refused_and_untouched(
    make: Make, refused: Callable[..., str], kind: Kind
) -> None:
    source, target = make("sqlite"), make(kind)
    fill(source)
    with databases.opened(target) as store:
        store.tokens.create("somebody's", ["read"], source=None)
    before = everything(target, databases.keys(target))
    assert "is not empty, it has rows in tokens" in refused(source, target, by=CannotOpen)
    assert everything(target, databases.keys(target)) == before


def test_opened_but_empty_target_is_taken(make: Make) -> None:
    source, target = make("sqlite"), make("postgres")
    with databases.opened(target) as store:
        store.probe()
    copied(source, target)


def test_copy_onto_itself_is_refused(
    make: Make, refused: Callable[..., str], tmp_path: Path
) -> None:
    file, server = make("sqlite"), make("postgres")
    (tmp_path / "link.db").symlink_to(file.removeprefix("sqlite:///"))
    again = f"{server}&connect_timeout=9"
    for source, target in ((file, f"sqlite:///{tmp_path}/link.db"), (server, again)):
        assert "are the same database" in refused(source, target, by=CannotOpen)


def test_wrong_source_key_is_refused(make: Make, refused: Callable[..., str]) -> None:
    source, target = make("postgres"), make("sqlite", bare=True)
    assert "made with another key" in refused(source, target, [new_key()], by=WrongKey)
    assert "set RESULTSINK_ENCRYPTION_KEYS" in refused(source, target, [], by=CannotOpen)
    assert not (folder_of(target) / "resultsink.key").exists()


def test_wrong_target_key_is_refused(make: Make, refused: Callable[..., str]) -> None:
    source, target = make("sqlite"), make("postgres")
    for ours in ([], [new_key()], [new_key(), KEY]):
        assert "put that one first" in refused(source, target, ours, by=WrongKey)


def test_source_without_key_file_is_refused(make: Make, refused: Callable[..., str]) -> None:
    source, target = make("sqlite"), make("sqlite")
    (folder_of(source) / "resultsink.key").unlink()
    with pytest.raises(WrongKey, match="is missing: restore it"):
        storage.copy(source, target)


def test_unreachable_server_named_without_password(make: Make) -> None:
    with pytest.raises(CannotOpen, match="cannot be opened") as refusal:
        storage.copy(make("sqlite"), "postgresql://user:hunter2@127.0.0.1:1/nothing")
    assert "hunter2" not in str(refusal.value)


# --- all or nothing -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bare", [False, True])
def test_failed_copy_leaves_nothing_and_repeats(make: Make, kind: Kind, bare: bool) -> None:
    """Two runs whose names are one when they are clean, after other tables were copied."""
    source, target = make("sqlite"), make(kind, bare=bare)
    fill(source)
    statement = "INSERT INTO runs (source, run_id, status) VALUES ('v', 'a' || ?, 'queued')"
    sql(source, statement, "\0")
    sql(source, statement, "�")
    with pytest.raises(CopyFailed, match=r"nothing of it was kept: .*\.$"):
        copied(source, target)
    sql(source, "DELETE FROM runs WHERE source = 'v'")
    copied(source, target)
    assert everything(target, keys(source, target)) == everything(source, [])


def test_row_without_parent_is_refused(make: Make) -> None:
    source, target = make("sqlite"), make("sqlite")
    sql(
        source,
        "INSERT INTO attempts (job_id, started_at, milliseconds, outcome)"
        " VALUES (7, '2026-10-05 12:00:00.000000', 1.0, 'done')",
    )
    with pytest.raises(CopyFailed, match="without their parents"):
        copied(source, target)


LOSES = {
    "sqlite": "CREATE TRIGGER loses AFTER INSERT ON deliveries BEGIN {} END",
    "postgres": "CREATE FUNCTION loses() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {}"
    " RETURN NULL; END $$; CREATE TRIGGER loses AFTER INSERT ON deliveries"
    " FOR EACH ROW EXECUTE FUNCTION loses()",
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM deliveries WHERE id = 2;",
        "UPDATE deliveries SET copies = 7 WHERE id = 2;",
        "UPDATE deliveries SET body = '' WHERE id = 2;",
        "UPDATE deliveries SET last_copy_at = received_at WHERE id = 2;",
    ],
)
def test_altered_copy_is_not_kept(make: Make, kind: Kind, change: str) -> None:
    source, target = make("sqlite"), make(kind)
    fill(source)
    sql(target, LOSES[kind].format(change))
    with pytest.raises(CopyFailed, match=r"in deliveries read back are not what was copied"):
        copied(source, target)
    assert not any(everything(target, databases.keys(target)).values())


# --- while it lasts -----------------------------------------------------------------------------


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(("source_kind", "target_kind"), PAIRS[:2])
def test_nobody_serves_and_nobody_writes_meanwhile(
    make: Make, source_kind: Kind, target_kind: Kind
) -> None:
    source, target = make(source_kind), new(make, source_kind, target_kind)
    fill(source)
    seen: list[str] = []

    def tries(what: str, done: int, total: int) -> None:
        if what == "verifying events" and not seen:
            seen.append(what)
            for url in (source, target):
                with pytest.raises(CannotOpen):
                    storage.open(url, databases.keys(url), serve=True)
            with databases.opened(source) as beside:
                assert len(beside.tokens.list_all()) == 1  # who only reads is not disturbed
                with pytest.raises(CannotStore):
                    beside.tokens.create("late", ["read"], source=None)

    storage.copy(source, target, [KEY], progressed=tries)
    assert seen
    storage.open(source, databases.keys(source), serve=True).close()
    storage.open(target, [KEY], serve=True).close()


@pytest.mark.parametrize("kind", KINDS)
def test_interrupted_copy_leaves_no_lock(make: Make, kind: Kind) -> None:
    source, target = make("sqlite"), make(kind)
    fill(source)

    def interrupts(what: str, done: int, total: int) -> None:
        if what == "copying jobs":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        storage.copy(source, target, keys(source, target), progressed=interrupts)
    assert not any(everything(target, databases.keys(target)).values())
    copied(source, target)


def test_progress_counts_written_and_verified_rows(make: Make) -> None:
    source = make("sqlite")
    fill(source)
    shown: list[tuple[str, int, int]] = []
    report = storage.copy(source, make("sqlite"), progressed=lambda *moment: shown.append(moment))
    total = 2 * sum(table.rows for table in report.tables)
    assert [done for _, done, _ in shown] == sorted(done for _, done, _ in shown)
    assert {whole for _, _, whole in shown} == {total}
    assert shown[-1][1] == total
