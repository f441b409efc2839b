"""The schema's history (Alembic), applied at start on SQLite, and by `db upgrade` on Postgres.

`HEAD` is a constant so that a start with a current schema does not load Alembic; a test compares it
with the newest script, and the scripts with the models.
"""

from pathlib import Path

from sqlalchemy import Connection, column, inspect, select, table

from storage.errors import CannotOpen, NewerSchema

HEAD = "0010"


def upgrade(connection: Connection, schema: str | None = None) -> None:
    """Bring the tables to HEAD inside the caller's transaction.

    On Postgres they are in `schema`, where the scripts, which name no schema, find and make them.
    Raises NewerSchema for a revision that this version does not know, CannotOpen for the database
    of another program.
    """
    revision = current(connection, schema)
    if revision == HEAD:
        return
    if revision is None and inspect(connection).get_table_names(schema):
        raise CannotOpen("The database holds tables of another program: name another database.")
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    config.attributes["schema"] = schema
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise NewerSchema(
            f"The database has schema {revision}, which this version (schema {HEAD}) "
            "does not know: install the newer resultsink again."
        ) from error


def current(connection: Connection, schema: str | None = None) -> str | None:
    """Return the revision of the tables in `schema`, or None where there are none."""
    if not inspect(connection).has_table("alembic_version", schema):
        return None
    versions = table("alembic_version", column("version_num"), schema=schema)
    return connection.execute(select(versions.c.version_num)).scalar()
