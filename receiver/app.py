"""The composition root: the only place, beside the command line, that builds things."""

import asyncio
import gc
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from enum import StrEnum
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send

import storage
from receiver import api, health
from receiver.errors import UsageError
from receiver.intake import routes
from receiver.intake.endpoint_cache import EndpointCache
from receiver.intake.group_commit import GroupCommit
from receiver.intake.intake import Intake
from receiver.intake.quarantine_writer import QuarantineWriter
from receiver.intake.request_body import Bodies
from receiver.sender_api.client_pool import clients_for
from receiver.settings import Settings
from receiver.sources import Source, configured
from receiver.telemetry.logs import get_logger
from receiver.work.pruning import Pruning, ages
from receiver.work.worker import Worker

log = get_logger("app")

GC_THRESHOLD = 50_000
"""Allocations between two collections: a delivery leaves no cycles, so few are needed."""


class Role(StrEnum):
    """Part of a process in the service: on Postgres any number of processes share the work."""

    ALL = "all"
    INTAKE = "intake"
    WORKER = "worker"


def check_role(role: Role, settings: Settings) -> None:
    """Raise UsageError for a role on SQLite, which one process alone serves."""
    if role is not Role.ALL and settings.is_on_sqlite:
        raise UsageError(
            f"On SQLite one process does everything: leave --role {role} away, or set "
            "RESULTSINK_DATABASE_URL to a Postgres database."
        )


def create_app(
    settings: Settings, *, store: storage.Store | None = None, role: Role = Role.ALL
) -> "Application":
    """Build the ASGI application, which opens and closes the store unless one is given.

    Raises UsageError for wrong settings; its lifespan raises storage's CannotOpen.
    """
    sources = configured(settings)
    check_role(role, settings)
    kept_for = ages(settings.retention, [source.scheme for source in sources.values()])

    @asynccontextmanager
    async def lifespan(app: Application) -> AsyncIterator[Mapping[str, Any]]:
        for source in sources.values():
            source.account.warn()
        opened = store
        if opened is None:
            opened = await run_in_threadpool(open_store, settings, serve=True)
        try:
            async with _running(opened, sources, role, kept_for, on_break=app.end) as intake:
                bodies = Bodies(settings.max_in_flight_bytes)
                yield {
                    "intake": intake,
                    "bodies": bodies,
                    "api": api.ApiContext(opened, sources, bodies, public_url=settings.public_url),
                    "readiness": health.Readiness(opened),
                }
        finally:
            if opened is not store:
                await run_in_threadpool(opened.close)

    pages = [
        Route("/healthz", health.alive),
        Route("/readyz", health.ready),
        Mount(api.PREFIX, api.Api()),
    ]
    if role is Role.WORKER:
        pages.append(Mount(routes.WEBHOOKS, routes.unavailable))
        application = Application(routes=pages, lifespan=lifespan)
    else:
        application = IntakeApplication(routes=pages, lifespan=lifespan)
    application.router.redirect_slashes = False  # nobody is ever sent elsewhere
    return application


class Application(Starlette):
    """The application of every role; one that takes webhooks in is an IntakeApplication."""

    broken: BaseException | None = None
    """Error of the part that broke and so ended the service; None where the end was wanted."""

    def end(self, error: BaseException) -> None:
        """Stop the server after an error, to be restarted by whoever watches over the process."""
        log.critical("a part of the service broke; ending", exc_info=error)
        self.broken = error
        signal.raise_signal(signal.SIGTERM)


class IntakeApplication(Application):
    """An application that hands webhooks straight to their route.

    Starlette's own way to a route, through its middleware and patterns, would cost a delivery as
    much as verifying it does.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(routes.WEBHOOKS):
            await routes.webhook(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    def fast_path(self, scope: Scope, body: bytes, respond: routes.Respond) -> bool:
        """Take a webhook that has come whole, without a task; False for any other request.

        The server offers every such request: see receiver.server.
        """
        if not scope["path"].startswith(routes.WEBHOOKS):
            return False
        return routes.fast_path(scope, body, respond)


def open_store(settings: Settings, *, serve: bool = False, create: bool = True) -> storage.Store:
    """Open the database of these settings, or make it; raises storage's CannotOpen."""
    keys = [key.get_secret_value() for key in settings.encryption_keys]
    return storage.open(
        settings.database_url,
        keys,
        schema=settings.database_schema,
        serve=serve,
        create=create,
        direct_url=settings.database_direct_url,
        first_check=timedelta(seconds=settings.first_check_seconds),
    )


@asynccontextmanager
async def _running(
    store: storage.Store,
    sources: Mapping[str, Source],
    role: Role,
    kept_for: storage.Ages,
    *,
    on_break: Callable[[BaseException], None],
) -> AsyncIterator[Intake | None]:
    """Run the parts of a role until the end of the block; gives its intake, if it has one."""
    async with clients_for(*sources.values()) as clients:
        parts: list[Callable[[], Any]] = []
        on_work = store.hint
        group_commit = GroupCommit(store)
        if role is not Role.INTAKE:
            worker = Worker(store, sources.values(), clients, gives_way=group_commit.is_busy)
            store.listen(_on_loop(worker.wake))
            parts += [worker.run, Pruning(store, kept_for).run]
            on_work = partial(_wake, worker, store)
        intake = None
        if role is not Role.WORKER:
            endpoints, quarantine_writer = EndpointCache(store, sources), QuarantineWriter(store)
            intake = Intake(sources, endpoints, group_commit, quarantine_writer, on_work=on_work)
            parts += [endpoints.follow, quarantine_writer.run]
        async with _beside(*parts, on_break=on_break), _few_collections():
            yield intake


def _on_loop(call: Callable[[], None]) -> Callable[[], None]:
    """Return a function that makes the call on this event loop, for other threads."""
    loop = asyncio.get_running_loop()

    def threadsafe() -> None:
        loop.call_soon_threadsafe(call)

    return threadsafe


def _wake(worker: Worker, store: storage.Store) -> None:
    """Wake the worker of this process, and hint to the others that there may be work."""
    worker.wake()
    store.hint()


@asynccontextmanager
async def _beside(
    *runs: Callable[[], Any], on_break: Callable[[BaseException], None]
) -> AsyncIterator[None]:
    """Run tasks until the end of the block; `on_break` is called with the error of one."""
    tasks = [asyncio.create_task(run()) for run in runs]
    for task in tasks:
        task.add_done_callback(partial(_report_error, on_break))
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _report_error(on_break: Callable[[BaseException], None], task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        on_break(error)


@asynccontextmanager
async def _few_collections() -> AsyncIterator[None]:
    """Keep objects that live as long as the process out of garbage collection."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
