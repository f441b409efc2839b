"""resultsink event: list the events, show one with its deliveries, jobs and attempts."""

from collections.abc import Mapping
from typing import Any

import typer

from receiver.cli.opening import existing_store
from receiver.cli.options import AsJson, Id, Limit, SourceName
from receiver.cli.output import harmless, in_one_line, print_json, print_list

app = typer.Typer(help="Events: what the senders announced.", no_args_is_help=True)


@app.command("list")
def list_(source: SourceName = None, limit: Limit = 100, as_json: AsJson = False) -> None:
    """List the newest events, with how often each was delivered."""
    with existing_store() as store:
        rows = store.events.list_newest(source=source, limit=limit)
    columns = ["id", "received_at", "source", "key", "disposition", "deliveries", "jobs"]
    print_list(rows, columns, nothing="There are no events yet.", as_json=as_json)


@app.command()
def show(event_id: Id, as_json: AsJson = False) -> None:
    """Print one event with its deliveries as received, its jobs, and every attempt."""
    with existing_store() as store:
        event = store.events.show(event_id)
    if as_json:
        print_json(_without_bytes(event))
        return
    for name in ("id", "source", "endpoint_id", "key", "disposition", "received_at"):
        typer.echo(f"{name.replace('_', ' '):>12}  {in_one_line(event[name])}")
    for delivery in event["deliveries"]:
        again = f", {delivery['copies']} times again" if delivery["copies"] else ""
        typer.echo(f"\ndelivery {delivery['id']}, {in_one_line(delivery['received_at'])}{again}")
        typer.echo(harmless(delivery["headers"].rstrip()))
        typer.echo(harmless(_as_text(delivery["body"])))
    for job in event["jobs"]:
        reason = f": {in_one_line(job['reason'])}" if job["reason"] else ""
        typer.echo(f"\njob {job['id']} ({job['kind']} {job['subject']}) is {job['status']}{reason}")
        for attempt in event["attempts"]:
            if attempt["job_id"] == job["id"]:
                at = in_one_line(attempt["started_at"])
                ms = f"{attempt['milliseconds']:.0f} ms"
                detail = in_one_line(attempt["detail"])
                typer.echo(f"  {at}  {ms:>8}  {attempt['outcome']}: {detail}")


def _without_bytes(event: Mapping[str, Any]) -> dict[str, object]:
    """Return an event with bodies as text and digests in hexadecimal."""
    deliveries = [
        {**each, "digest": each["digest"].hex(), "body": _as_text(each["body"])}
        for each in event["deliveries"]
    ]
    return {**event, "key_digest": event["key_digest"].hex(), "deliveries": deliveries}


def _as_text(body: bytes) -> str:
    """Decode a body; bytes that are not UTF-8 become escapes."""
    return body.decode("utf-8", "backslashreplace")
