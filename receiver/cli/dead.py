"""resultsink dead: what is stuck, and working it again."""

import typer

from receiver.cli.opening import opened
from receiver.cli.options import AsJson, Id, Limit
from receiver.cli.output import errors, print_json, print_rows

app = typer.Typer(help="Dead letters: jobs that ended without success.", no_args_is_help=True)


@app.command("list")
def list_(limit: Limit = 100, as_json: AsJson = False) -> None:
    """List the dead letters, newest first, each with its reason."""
    with opened() as store:
        rows = store.jobs.list_dead(limit=limit)
    if as_json:
        print_json(rows)
        return
    columns = ["id", "ended_at", "source", "subject_kind", "subject", "event_id", "reason"]
    print_rows(rows, columns, nothing="There are no dead letters.")


@app.command()
def replay(job_id: Id) -> None:
    """Work a dead letter again, as if it were new."""
    with opened() as store:
        store.jobs.replay(job_id)
    errors.print(f"Job {job_id} waits to be worked again.")
