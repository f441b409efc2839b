"""The scripts make what the models say, and a script that fails leaves nothing."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import NullPool, create_engine
from sqlalchemy.exc import IntegrityError
from sqlmodel import SQLModel

import storage
from storage import CannotOpen, migrations
from storage.database import Database, open_database
from storage.database.postgres.engine import postgres_url
from storage.database.postgres.names import schema_of
from storage.tokens import TokenStore
from tests.databases import is_postgres
from tests.storage import earlier


def schema(path: Path) -> dict[str, set[str]]:
    """Each table and index with the parts of its definition, without order and spelling."""
    connection = sqlite3.connect(path)
    found = connection.execute(
        "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"
    ).fetchall()
    connection.close()
    return {name: parts(sql) for name, sql in found if name != "alembic_version"}


def parts(sql: str) -> set[str]:
    flat = re.sub(r"\s+", " ", sql.replace('"', "")).strip()
    head, _, body = flat.partition("(")
    return {head.strip(), *(part.strip(" ,()") for part in re.split(r", (?![^()]*\))", body))}


def test_scripts_make_the_models_tables(made_url: str) -> None:
    url = postgres_url(made_url) if is_postgres(made_url) else made_url
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, SQLModel.metadata) == []


@pytest.mark.sqlite
def test_scripts_make_every_constraint(store: storage.Store, tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/models.db")
    SQLModel.metadata.create_all(engine)
    engine.dispose()
    by_models, by_scripts = schema(tmp_path / "models.db"), schema(Path(store.name))
    assert by_scripts == by_models
    assert any("CHECK" in part for part in by_models["jobs"])
    assert any("WHERE" in part for part in by_models["uq_jobs_check"])


def test_head_constant_is_the_newest_script(database: Database) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    assert ScriptDirectory.from_config(config).get_heads() == [migrations.HEAD]
    with database.read() as connection:
        assert migrations.current(connection, schema_of(connection)) == migrations.HEAD


@pytest.mark.sqlite
def test_reopening_leaves_the_schema(store: storage.Store) -> None:
    before = schema(Path(store.name))
    storage.open(f"sqlite:///{Path(store.name)}").close()
    assert schema(Path(store.name)) == before


def test_a_script_that_fails_leaves_nothing(tmp_path: Path, database_url: str) -> None:
    """A table in the way of a later script: by then others have changed the schema."""
    earlier.make(database_url, "CREATE TABLE paces (x)", revision="0001")
    before = schema(tmp_path / "resultsink.db")
    with pytest.raises(CannotOpen, match="cannot be opened"):
        open_database(database_url)
    assert schema(tmp_path / "resultsink.db") == before


def test_tokens_of_earlier_versions_never_expire(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/old.db"
    earlier.make(
        url,
        "INSERT INTO tokens (name, digest, scopes, created_at)"
        " VALUES ('ci', x'00', '[\"read\"]', '2026-01-01')",
    )
    with closing(open_database(url)) as database:
        assert [row["expires_at"] for row in TokenStore(database).list_all()] == [None]


def test_first_version_keeps_its_rows(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/old.db"
    earlier.make(
        url,
        "INSERT INTO endpoints (id, source, kind, state, created_at)"
        " VALUES ('e', 'valyu', 'batch', 'open', '2026-01-01')",
        "INSERT INTO secrets (endpoint_id, ciphertext, valid_from, created_at)"
        " VALUES ('e', x'00', '2026-01-01', '2026-01-01')",
        revision="0001",
    )
    database = open_database(url)
    with database.read() as connection:
        kept = connection.exec_driver_sql("SELECT id, task_id FROM endpoints").all()
        assert kept == [("e", None)]
        assert connection.exec_driver_sql("SELECT count(*) FROM secrets").scalar() == 1
        assert migrations.current(connection) == migrations.HEAD
    with pytest.raises(IntegrityError):
        database.write(lambda c: c.exec_driver_sql("DELETE FROM endpoints"))
    database.close()
