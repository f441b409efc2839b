"""resultsink db: upgrade and check the schema, copy to another database."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from receiver.cli.help import Commands
from receiver.cli.opening import begin_work, existing_store, keys_of
from receiver.cli.options import AsJson
from receiver.cli.output import print_json, print_rows, progress_bar, say
from receiver.errors import ReceiverError

if TYPE_CHECKING:
    import storage

app = Commands(help="The database: its schema, its keys, and moving to another.")

SHOWN = 20
"""Endpoints that a sentence names."""


@app.command()
def upgrade(as_json: AsJson = False) -> None:
    """Make the tables, or bring them up to this version.

    Example:
        resultsink db upgrade
    """
    import storage
    from receiver.settings import load

    begin_work()
    settings = load()
    before = storage.upgrade(
        settings.database_url, keys_of(settings), schema=settings.database_schema
    )
    if as_json:
        print_json({"before": before, "now": storage.SCHEMA})
    elif before == storage.SCHEMA:
        typer.echo(f"The schema is {storage.SCHEMA} already.")
    else:
        typer.echo(f"The schema is {storage.SCHEMA} now; it was {before or 'none'}.")


@app.command()
def check(as_json: AsJson = False) -> None:
    """Say if this version can use the database; exit 1 and say what to do if it cannot.

    Example:
        resultsink db check
    """
    import storage
    from receiver.settings import load

    begin_work()
    settings = load()
    try:
        store = storage.open(
            settings.database_url,
            keys_of(settings),
            schema=settings.database_schema,
            create=False,
        )
    except storage.NoDatabase as missing:  # it is the answer here, and no wrong use
        raise ReceiverError(str(missing)) from missing
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


@app.command()
def rekey(
    forget_unreadable: Annotated[
        bool, typer.Option("--forget-unreadable", help="Delete secrets whose key is lost.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Encrypt all secrets under the first of encryption_keys, so that others can be removed.

    Example:
        resultsink db rekey
    """
    with existing_store() as store:
        with progress_bar() as bar:
            task = bar.add_task("encrypting", total=None)
            done = store.keys.rekey(lambda seen: bar.update(task, completed=seen))
        if forget_unreadable:
            store.keys.forget(done.unreadable)
        is_served = store.is_served()
    lost = 0 if forget_unreadable else len(done.unreadable)
    if as_json:
        counts = {"changed": done.changed, "readable": done.readable}
        print_json({**counts, "unreadable": done.unreadable, "forgotten": forget_unreadable})
    else:
        typer.echo(_counts(done, lost, is_served=is_served))
    if is_served:
        say(_SERVED)
    if lost:
        raise ReceiverError(_unreadable(done.unreadable))


_SERVED = (
    "A process serves this database, and goes on writing under the key that is the first of its "
    "own. Unless that is the new key: start it with the new key first and the old one after it, "
    "and run this again. Remove the old key only then."
)


def _counts(done: storage.Rekeyed, lost: int, *, is_served: bool) -> str:
    """Return what was done, and that one key is enough where nobody can make that untrue."""
    counts = (
        f"{done.readable:,} of {done.readable + lost:,} secrets are under the first key, "
        f"{done.changed:,} of them by this command"
    )
    return f"{counts}." if lost or is_served else f"{counts}; that key alone opens the database."


def _unreadable(secrets: Sequence[storage.UnreadableSecret]) -> str:
    """Return what to do about secrets that no key opens."""
    endpoints = sorted({secret["endpoint"] for secret in secrets})
    named = ", ".join(endpoints[:SHOWN]) + (", ..." if len(endpoints) > SHOWN else "")
    return (
        f"No key that is given opens {len(secrets):,} of the secrets: add the missing one to the "
        "end of encryption_keys and run this again; or, if it is lost, add --forget-unreadable, "
        f"and set the secrets anew with `resultsink endpoint secret ENDPOINT`. Endpoints: {named}."
    )


@app.command()
def copy(
    source: Annotated[str, typer.Argument(metavar="SOURCE_URL", help="The database to copy.")],
    target: Annotated[str, typer.Argument(metavar="TARGET_URL", help="An empty database.")],
    as_json: AsJson = False,
) -> None:
    """Copy everything into an empty database of either kind and verify it; nobody may serve.

    Example:
        resultsink db copy sqlite:///resultsink.db postgresql://app@db/hooks
    """
    import storage
    from receiver.settings import load

    begin_work()
    given = load()
    with _progress() as progressed:
        report = storage.copy(
            source, target, keys_of(given), schema=given.database_schema, progressed=progressed
        )
    settings = _to_be_set(report)
    if as_json:
        print_json(_as_json(report, settings))
        return
    tables = [
        {"table": table.table, "rows": table.rows, "verified": "yes", "cleaned": table.cleaned}
        for table in report.tables
    ]
    print_rows(tables, ["table", "rows", "verified", "cleaned"], nothing="")
    typer.echo(f"\n{report.source} is copied to {report.target}. Before you serve that, set")
    for name, value in settings.items():
        typer.echo(f"  {name} to {value}")
    if report.running:
        typer.echo(
            f"{report.running} jobs were running: the first worker takes them over when their "
            "leases have run out."
        )


def _to_be_set(report: storage.CopyReport) -> dict[str, str]:
    """Return what to set, by variable, before the target is served; never a key itself."""
    from receiver.settings import variable_of

    found = {"RESULTSINK_DATABASE_URL": "the URL that you gave as the target's"}
    if report.key_file is None:
        variable = variable_of("encryption_keys")
        now = "what it is now" if variable else "what encryption_keys in resultsink.toml is now"
        found[variable or "RESULTSINK_ENCRYPTION_KEYS"] = (
            f"{now}, of which the first key is enough: it encrypts all secrets there"
        )
    elif not report.is_key_beside:
        found["RESULTSINK_ENCRYPTION_KEYS_FILE"] = (
            f"{report.key_file}, or a copy of it: the key stays the one of the source"
        )
    return found


def _as_json(report: storage.CopyReport, settings: dict[str, str]) -> dict[str, object]:
    return {
        "source": report.source,
        "target": report.target,
        "tables": [
            {
                "table": table.table,
                "rows": table.rows,
                "verified": True,
                "cleaned": table.cleaned,
            }
            for table in report.tables
        ],
        "running": report.running,
        "key_file": report.key_file and str(report.key_file),
        "set": list(settings),
    }


@contextmanager
def _progress() -> Iterator[storage.Progressed]:
    with progress_bar(in_percent=True) as bar:
        task = bar.add_task("looking", total=None)
        yield lambda what, done, total: bar.update(
            task, description=what, completed=done, total=total
        )
