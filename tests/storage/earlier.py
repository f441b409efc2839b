"""Databases as earlier versions left them: with their tables, at a revision, among others'."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import NullPool, create_engine

from storage import migrations
from storage.database.postgres.engine import postgres_url
from tests.databases import is_postgres

LAST_AMONG_OTHERS = "0005"
"""The revision of the last version that had no schema, and no application_id, of its own."""


def make(url: str, *statements: str, revision: str = LAST_AMONG_OTHERS) -> None:
    """Make the tables of `revision` as that version did, and run statements on them."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    engine = create_engine(postgres_url(url) if is_postgres(url) else url, poolclass=NullPool)
    with engine.begin() as connection:
        if is_postgres(url):
            connection.exec_driver_sql("SET LOCAL search_path TO public")
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        for statement in statements:
            connection.exec_driver_sql(statement)
