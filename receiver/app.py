"""The composition root: the only place, beside the command line, that builds things."""

import asyncio
import gc
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
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
from receiver.intake.intake import Elsewhere, Intake
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
"""Allocations between two collections: a delivery leaves no cycles behind, so few are needed."""


class Role(StrEnum):
    """What a process does: on Postgres any number of them share the work."""

    ALL = "all"
    INTAKE = "intake"
    WORKER = "worker"


def check_role(role: Role, settings: Settings) -> None:
    """Raise UsageError where the database is not for several processes."""
    if role is not Role.ALL and settings.is_on_sqlite:
        raise UsageError(
            f"On SQLite one process does everything: leave --role {role} away, or set "
            "RESULTSINK_DATABASE_URL to a Postgres database."
        )


def create_app(
    settings: Settings, *, store: storage.Store | None = None, role: Role = Role.ALL
) -> "Application":
    """The ASGI application. Opens (and closes) the store unless one is given.

    Raises UsageError for settings that cannot be; the lifespan raises storage's CannotOpen.
    """
    sources = configured(settings)
    check_role(role, settings)
    kept_for = ages(settings.retention, [source.scheme for source in sources.values()])

    @asynccontextmanager
    async def lifespan(app: Application) -> AsyncIterator[Mapping[str, Any]]:
        for source in sources.values():
            source.account.warn()
        kept = store
        if kept is None:
            kept = await run_in_threadpool(open_store, settings, serve=True)
        try:
            async with _running(kept, sources, role, kept_for, broke=app.end) as intake:
                bodies = Bodies(settings.max_in_flight_bytes)
                yield {
                    "intake": intake,
                    "bodies": bodies,
                    "api": api.ApiContext(kept, sources, bodies, public_url=settings.public_url),
                    "readiness": health.Readiness(kept),
                }
        finally:
            if kept is not store:
                await run_in_threadpool(kept.close)

    application = Application(
        routes=[
            Route("/healthz", health.alive),
            Route("/readyz", health.ready),
            Mount(api.PREFIX, api.Api()),
        ],
        lifespan=lifespan,
    )
    application.router.redirect_slashes = False  # nobody is ever sent elsewhere
    return application


class Application(Starlette):
    """A Starlette application that hands webhooks straight to their route.

    Starlette's own way to a route, through its middleware and patterns, would cost a delivery as
    much as verifying it does.
    """

    broken: BaseException | None = None
    """What a part of the service broke with, where that ended it: it was no wanted end."""

    def end(self, error: BaseException) -> None:
        """Have the server stop, to be restarted by whoever watches over the process."""
        log.critical("a part of the service broke; ending", exc_info=error)
        self.broken = error
        signal.raise_signal(signal.SIGTERM)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(routes.WEBHOOKS):
            await routes.webhook(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    def at_once(self, scope: Scope, body: bytes, answer: routes.Answer) -> bool:
        """Take a request that has come whole, if it can be taken without a task; see server."""
        if not scope["path"].startswith(routes.WEBHOOKS):
            return False
        return routes.webhook_at_once(scope, body, answer)


def open_store(settings: Settings, *, serve: bool = False, create: bool = True) -> storage.Store:
    """Open the database of these settings, or make it; raises storage's CannotOpen."""
    keys = [key.get_secret_value() for key in settings.encryption_keys]
    return storage.open(settings.database_url, keys, serve=serve, create=create)


@asynccontextmanager
async def _running(
    store: storage.Store,
    sources: Mapping[str, Source],
    role: Role,
    kept_for: storage.Ages,
    *,
    broke: Callable[[BaseException], None],
) -> AsyncIterator[Intake]:
    """The intake, with everything of this role that works beside it until the end."""
    async with clients_for(*sources.values()) as clients:
        parts: list[Callable[[], Any]] = []
        woken = store.hint
        commits = GroupCommit(store)
        if role is not Role.INTAKE:
            worker = Worker(store, sources.values(), clients, gives_way=commits.is_busy)
            store.listen(_on_loop(worker.wake))
            parts += [worker.run, Pruning(store, kept_for).run]
            woken = partial(_wake, worker, store)
        intake: Intake = Elsewhere()
        if role is not Role.WORKER:
            endpoints, quarantine_writer = EndpointCache(store, sources), QuarantineWriter(store)
            intake = Intake(sources, endpoints, commits, quarantine_writer, woken=woken)
            parts += [endpoints.follow, quarantine_writer.run]
        async with _beside(*parts, broke=broke), _few_collections():
            yield intake


def _on_loop(call: Callable[[], None]) -> Callable[[], None]:
    """The same call for other threads."""
    loop = asyncio.get_running_loop()

    def threadsafe() -> None:
        loop.call_soon_threadsafe(call)

    return threadsafe


def _wake(worker: Worker, store: storage.Store) -> None:
    """There may be work: for us, and for others."""
    worker.wake()
    store.hint()


@asynccontextmanager
async def _beside(
    *runs: Callable[[], Any], broke: Callable[[BaseException], None]
) -> AsyncIterator[None]:
    """Run tasks until the end of the block; `broke` is told the error of one that breaks."""
    tasks = [asyncio.create_task(run()) for run in runs]
    for task in tasks:
        task.add_done_callback(partial(_tell_if_broken, broke))
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _tell_if_broken(broke: Callable[[BaseException], None], task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        broke(error)


@asynccontextmanager
async def _few_collections() -> AsyncIterator[None]:
    """Leave what lives as long as the process out of garbage collection."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
