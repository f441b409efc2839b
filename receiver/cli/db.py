"""resultsink db: the schema of the database, and growing from SQLite to Postgres."""

import typer

import storage
from receiver.cli.common import AsJson, print_json
from receiver.settings import Settings, load

app = typer.Typer(help="The database: its schema, and moving to another.", no_args_is_help=True)


@app.command()
def upgrade(as_json: AsJson = False) -> None:
    """Make the tables, or bring them up to this version; nothing happens where they are."""
    settings = load()
    before = storage.upgrade(settings.database_url, keys_of(settings))
    if as_json:
        print_json({"before": before, "now": storage.SCHEMA})
    elif before == storage.SCHEMA:
        typer.echo(f"The schema is {storage.SCHEMA} already.")
    else:
        typer.echo(f"The schema is {storage.SCHEMA} now; it was {before or 'none'}.")


@app.command()
def check(as_json: AsJson = False) -> None:
    """Say whether this version can use the database; exit 1 and what to do where it cannot."""
    settings = load()
    store = storage.open(settings.database_url, keys_of(settings), create=False)
    try:
        store.probe()
        found = {"database": store.name, "schema": storage.SCHEMA, "served": store.is_served()}
    finally:
        store.close()
    if as_json:
        print_json(found)
    else:
        served = "is served" if found["served"] else "is served by nobody now"
        typer.echo(f"{found['database']} has schema {found['schema']}, takes writes, and {served}.")


def keys_of(settings: Settings) -> list[str]:
    """The keys that encrypt secrets at rest, newest first."""
    return [key.get_secret_value() for key in settings.encryption_keys]
