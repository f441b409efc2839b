"""resultsink dead: list the dead letters, replay one."""

from receiver.cli.help import Commands
from receiver.cli.opening import existing_store
from receiver.cli.options import AsJson, Id, Limit
from receiver.cli.output import print_list, say

app = Commands(help="Dead letters: jobs that ended without success.")


@app.command("list")
def list_(limit: Limit = 100, as_json: AsJson = False) -> None:
    """List the dead letters, newest first, each with its reason.

    Example:
        resultsink dead list --limit 20
    """
    with existing_store() as store:
        rows = store.jobs.list_dead(limit=limit)
    columns = ["id", "ended_at", "source", "subject_kind", "subject", "event_id", "reason"]
    print_list(rows, columns, nothing="There are no dead letters.", as_json=as_json)


@app.command()
def replay(job_id: Id) -> None:
    """Work a dead letter again, as if it were new.

    Example:
        resultsink dead replay 12
    """
    with existing_store() as store:
        store.jobs.replay(job_id)
    say(f"Job {job_id} waits to be worked again.")
