"""resultsink serve: the receiver itself."""

import sys
from contextlib import closing
from typing import Annotated, Literal

import typer

from receiver.cli.opening import begin_work
from receiver.errors import ReceiverError


def serve(
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Address to listen on.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=0, max=65535)] = 8000,
    role: Annotated[
        Literal["all", "intake", "worker"],
        typer.Option(help="What this process does; others than all need Postgres."),
    ] = "all",
) -> None:
    """Run the receiver: take deliveries in, fetch results, store them.

    Example:
        resultsink serve --port 8000
    """
    from receiver import server
    from receiver.app import Role, check_role, create_app, open_store
    from receiver.sender_api.proxies import check_environment
    from receiver.settings import load
    from receiver.sources import configured
    from receiver.telemetry import logs
    from receiver.work.pruning import ages

    begin_work()
    log = logs.get_logger("serve")
    settings = load()
    as_json = None if settings.log_format == "auto" else settings.log_format == "json"
    logs.configure(json=as_json, level=settings.log_level, stream=sys.stderr)
    logs.hide(settings.secrets())
    sources = configured(settings)  # refused before a database is made
    check_role(Role(role), settings)
    check_environment(source.base_url for source in sources.values())
    ages(settings.retention, [source.scheme for source in sources.values()])
    listening = server.listen(host, port)
    with closing(listening), closing(open_store(settings, serve=True)) as store:
        app = create_app(settings, store=store, role=Role(role))
        address = "http://{}:{}".format(*listening.getsockname()[:2])
        names = sorted(settings.sources)
        named = {"address": address, "role": role, "database": store.name}
        log.info("serving", **named, sources=names)
        if not settings.sources:
            log.warning("no source is configured: every webhook is answered 404")
        server.run(app, listening, max_connections=settings.max_connections)
    if app.broken is not None:  # the exit code must tell a supervisor
        raise ReceiverError(
            f"A part of the service broke ({type(app.broken).__name__}): "
            "see the log for where, then start it again."
        )
