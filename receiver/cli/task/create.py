"""resultsink task create: a single task, with options that a task of a batch has not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from receiver.cli.opening import run, store_to_fill, tasks_of
from receiver.cli.options import AsJson
from receiver.cli.output import say
from receiver.cli.task.options import (
    attached,
    given,
    json_or_file,
    object_or_file,
    pairs,
    text_or_object,
)
from receiver.cli.task.resume import resume_task
from receiver.cli.task.show import show_stored
from receiver.cli.task.wait import Fail, wait_until_stored
from receiver.errors import UsageError

if TYPE_CHECKING:
    from receiver.providers.model import NewRun
    from receiver.settings import Settings
    from storage import Store

JSON = "JSON, or a file of it."


def create(  # one parameter for each option: that is what Typer reads
    context: typer.Context,
    source: Annotated[
        str | None,
        typer.Argument(help="The configured source; with --resume also a submission, or nothing."),
    ] = None,
    query: Annotated[
        str | None, typer.Option(metavar="QUESTION", help="What is to be found out (Valyu).")
    ] = None,
    input: Annotated[
        str | None, typer.Option(help="Text or a JSON object to work on (Parallel).")
    ] = None,
    runner: Annotated[
        str | None,
        typer.Option(
            "--mode",
            "--processor",
            "--runner",
            metavar="NAME",
            help="Who does the work, in the sender's word: instant, fast, core and so on.",
        ),
    ] = None,
    output_schema: Annotated[
        str | None, typer.Option(metavar="JSON", help=f"A JSON schema for the output: {JSON}")
    ] = None,
    format: Annotated[
        list[str] | None, typer.Option(help="markdown, pdf or toon. Repeatable.")
    ] = None,
    strategy: Annotated[
        str | None, typer.Option(metavar="SENTENCES", help="How to go about the research.")
    ] = None,
    report_format: Annotated[
        str | None, typer.Option(metavar="SENTENCES", help="How to write the report.")
    ] = None,
    deliverable: Annotated[
        list[str] | None,
        typer.Option(help="xlsx, 'xlsx:What is in it', a sentence, or JSON. Repeatable."),
    ] = None,
    file: Annotated[list[Path] | None, typer.Option(help="A file to read. Repeatable.")] = None,
    file_context: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=ABOUT", help="What a file is about. Repeatable."),
    ] = None,
    url: Annotated[list[str] | None, typer.Option(help="A page to read. Repeatable.")] = None,
    search: Annotated[
        str | None, typer.Option(metavar="JSON", help=f"Search options: {JSON}")
    ] = None,
    tools: Annotated[
        str | None, typer.Option(metavar="JSON", help=f"Which tools to use: {JSON}")
    ] = None,
    mcp_servers: Annotated[
        str | None, typer.Option(metavar="JSON", help=f"MCP servers: {JSON}")
    ] = None,
    previous_report: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="The id of a task to build on. Repeatable."),
    ] = None,
    hitl: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Ask at this checkpoint: plan_review and so on, or all. Repeatable.",
        ),
    ] = None,
    alert_email: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="An address, or JSON with email and custom_url."),
    ] = None,
    brand_collection: Annotated[
        str | None, typer.Option(metavar="ID", help="The id of a branding.")
    ] = None,
    metadata: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Facts to keep with it, or a JSON object of them. Repeatable.",
        ),
    ] = None,
    workflow: Annotated[
        str | None, typer.Option(metavar="SLUG", help="A stored workflow, by its slug.")
    ] = None,
    workflow_params: Annotated[
        str | None, typer.Option(metavar="JSON", help=f"Its parameters: {JSON}")
    ] = None,
    workflow_version: Annotated[int | None, typer.Option(help="Its version.", min=1)] = None,
    set: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=JSON", help="What has no option of its own. Repeatable."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Find the task of an interrupted `create`.")
    ] = False,
    give_up: Annotated[
        bool, typer.Option("--give-up", help="With --resume: look for it no more.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Return when the result is stored, as `task wait`.")
    ] = False,
    fail: Fail = False,
    as_json: AsJson = False,
) -> None:
    """Create a single task with its webhook registered, and print its id.

    Example:
        resultsink task create valyu --query 'What is new in grid storage?' --wait
    """
    if fail and not wait:
        raise UsageError("--fail is for --wait: nothing is known of the task before its end.")
    if resume:
        resume_task(source, give_up=give_up)
        return
    if source is None:
        raise typer.BadParameter("name the source", ctx=context)
    options = given(
        query=query,
        input=text_or_object("--input", input),
        runner=runner,
        output_schema=object_or_file("--output-schema", output_schema),
        format=format,
        strategy=strategy,
        report_format=report_format,
        deliverable=deliverable,
        file=attached(file, pairs("--file-context", file_context)),
        url=url,
        search=object_or_file("--search", search),
        tools=object_or_file("--tools", tools),
        mcp_servers=json_or_file("--mcp-servers", mcp_servers),
        previous_report=previous_report,
        hitl=hitl,
        alert_email=text_or_object("--alert-email", alert_email),
        brand_collection=brand_collection,
        metadata=pairs("--metadata", metadata) or None,
        workflow=workflow,
        workflow_params=object_or_file("--workflow-params", workflow_params),
        workflow_version=workflow_version,
        set=pairs("--set", set, as_json=True) or None,
    )
    run_id = _created(source, options, quiet=as_json)
    if wait:
        wait_until_stored(run_id, source, timeout=None, fail=fail, as_json=as_json)
    elif as_json:
        show_stored(run_id, source, as_json=True)
    else:
        say(f"next: resultsink task wait {run_id}")


def _created(source: str, options: dict[str, object], *, quiet: bool) -> str:
    from receiver.providers.capabilities.require import require_single_runs
    from receiver.settings import load
    from receiver.sources import configured, named

    settings = load()
    try:
        new = require_single_runs(named(configured(settings), source).provider).new_run(options)
    except ValueError as error:
        raise UsageError(f"The task was not created: {error}.") from None
    with store_to_fill(settings) as store:
        run_id = run(_create(store, settings, source, new))
    if not quiet:
        typer.echo(run_id)
    return run_id


async def _create(store: Store, settings: Settings, source: str, new: NewRun) -> str:
    async with tasks_of(store, settings, source) as tasks:
        return await tasks.create(new)
