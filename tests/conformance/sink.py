"""A receiver that serves from a thread of this process, on a real socket with its own protocol."""

import asyncio
import io
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from receiver.app import create_app
from receiver.providers.capabilities.require import require_single_runs
from receiver.providers.model import NewTask
from receiver.sandbox import SandboxServer
from receiver.sender_api.calls import Calls
from receiver.sender_api.client_pool import clients_for
from receiver.server import listen, protocol
from receiver.settings import GivenSettings, Settings
from receiver.sources import PROVIDERS, configured
from receiver.submissions.batches import BatchSubmissions, NewBatch
from receiver.submissions.tasks import TaskSubmissions
from receiver.submissions.waiting import wait
from receiver.work.waited_checks import WaitedChecks
from storage import EventRow, Ledger, Selection, Store
from tests import databases
from tests.behind import tables
from tests.conformance.cases import CASES, Case
from tests.databases import url_of
from tests.processes import DEADLINE, until
from tests.receiver.working import make_due, sql

PAUSE = 0.05
"""Between two looks at what is being worked on: often enough, and no hindrance to the work."""


class Sink:
    """The running receiver, its store, and what a user does beside it."""

    def __init__(self, settings: Settings, store: Store, url: str) -> None:
        self.settings = settings
        self.store = store
        self.url = url
        self.warned: list[str] = []

    def create(self, case: Case, tasks: Sequence[NewTask] | int = 3) -> str:
        """A batch, made as `batch create` makes it; its id."""
        wanted = case.tasks(tasks) if isinstance(tasks, int) else tasks

        async def work(batches: BatchSubmissions) -> str:
            new = NewBatch(case.plan, wanted)
            return await batches.create(new, created=_nobody, added=_nobody)

        return str(asyncio.run(self._with_batches(case, work)))

    def create_alone(self, case: Case, number: int, sandbox: SandboxServer) -> str:
        """A single run, made as `task create` makes it, or by other code where it cannot; its id.

        Who uses other code registers the run's endpoint.
        """
        if not case.has_single_runs:
            return self._create_by_other_code(case, number, sandbox)
        new = require_single_runs(PROVIDERS[case.name]()).new_run(case.options(number))

        async def work(calls: Calls) -> str:
            return await TaskSubmissions(self.store, calls, self.settings.public_url).create(new)

        return str(asyncio.run(self._with_calls(case, work)))

    def _create_by_other_code(self, case: Case, number: int, sandbox: SandboxServer) -> str:
        task_id, secret = case.stored_task(sandbox), case.secret(str(number))
        endpoint = self.store.endpoints.add(case.name, "run", task_id=task_id, secret=secret)
        url = f"{self.url}/webhooks/{case.name}/{endpoint}"
        run_id = case.run_of(task_id, sandbox, number, url)
        self.store.endpoints.bind(endpoint, run_id)
        return run_id

    def look(self, case: Case, batch_id: str) -> None:
        """Ask for a batch and have its results fetched, as `batch status` does."""
        asyncio.run(self._with_batches(case, lambda batches: batches.status(batch_id)))

    async def _with_batches(self, case: Case, work: Any) -> Any:
        def with_calls(calls: Calls) -> Any:
            public_url = self.settings.public_url
            return work(BatchSubmissions(self.store, calls, public_url, warn=self.warned.append))

        return await self._with_calls(case, with_calls)

    async def _with_calls(self, case: Case, work: Any) -> Any:
        source = configured(self.settings)[case.name]
        async with clients_for(source) as client:
            return await work(Calls(source, client))

    def post(self, path: str, headers: dict[str, str], body: bytes) -> httpx.Response:
        """A delivery by somebody else than the sandbox."""
        return httpx.post(self.url + path, content=body, headers=headers, trust_env=False)

    def complete(
        self, batch_id: str, *, seconds: float = DEADLINE, hurried: bool = False
    ) -> Ledger:
        """The ledger of a batch once it is complete; hurried, no failed try is waited after."""

        def look() -> Ledger | None:
            if hurried:
                self.hurry("failures > 0")
            ledger = self.store.batches.ledger(batch_id)
            return ledger if ledger.state == "complete" else None

        return until(look, seconds=seconds, pause=PAUSE)

    async def wait(
        self, case: Case, batch_id: str, *, ask: float = 0.5, deadline: float = DEADLINE
    ) -> Ledger:
        """Wait as `batch wait` does, but asking the sender every `ask` seconds; the ledger."""

        async def work(calls: Calls) -> Ledger:
            (ledger,) = await wait(
                self.store,
                [self.store.batches.ledger(batch_id)],
                check=WaitedChecks(self.store, [calls]).check,
                deadline=deadline,
                progressed=_nobody,
                unread=_nobody,
                ask_seconds=ask,
                young_seconds=ask,
            )
            return ledger

        found: Ledger = await self._with_calls(case, work)
        return found

    def worked_off(self) -> None:
        """Let the time pass that jobs wait for, until only checks that are not due are left."""
        make_due(self.store)
        until(lambda: not self.sql("SELECT 1 FROM jobs WHERE status IN ('pending', 'running')"))

    def quiet(self, *, seconds: float = DEADLINE) -> None:
        """Let the time pass that events' jobs wait for, until none has anything more to do."""

        def look() -> bool:
            self.hurry("event_id IS NOT NULL")
            return not self.sql(
                "SELECT 1 FROM jobs WHERE event_id IS NOT NULL AND status IN ('pending', 'running')"
            )

        until(look, seconds=seconds, pause=PAUSE)

    def hurry(self, which: str) -> None:
        """Let the time pass that such jobs wait for."""
        waiting = "UPDATE jobs SET next_attempt_at = created_at WHERE status = 'pending' AND "
        self.sql(waiting + which)

    def results(self, batch_id: str) -> list[dict[str, Any]]:
        """The stored results of a batch, as `export --format json` writes them."""
        out = io.BytesIO()
        self.store.export.write(Selection(batch_id=batch_id), "json", out)
        found: list[dict[str, Any]] = json.loads(out.getvalue())
        return found

    def runs(self, batch_id: str) -> list[str]:
        """The runs of a batch, in the order in which they were submitted."""
        rows = self.sql("SELECT run_id FROM runs WHERE batch_id = ? ORDER BY id", batch_id)
        return [row["run_id"] for row in rows]

    def events(self, *resources: str) -> list[EventRow]:
        """The events that are about any of these, oldest first."""
        listed = self.store.events.list_newest(limit=100_000)[::-1]
        if not resources:
            return listed
        about = self.sql("SELECT event_id, subject FROM jobs WHERE event_id IS NOT NULL")
        wanted = {row["event_id"] for row in about if row["subject"] in resources}
        return [event for event in listed if event["id"] in wanted]

    def sql(self, statement: str, *values: Any) -> list[dict[str, Any]]:
        """Run a statement on another connection."""
        return sql(self.store, statement, *values)

    def snapshot(self, *but: str) -> dict[str, list[Any]]:
        """All that is stored, but for these tables."""
        names = [name for name in tables(url_of(self.store)) if name not in but]
        return {
            name: sorted(self.sql(f"SELECT * FROM {name}"), key=str)  # noqa: S608
            for name in names
        }


def write_settings(
    folder: Path, given: Mapping[str, str], sources: Mapping[str, Mapping[str, Any]]
) -> None:
    """A settings file, for commands in this folder and for processes; JSON's values are TOML's."""
    lines = [f"{name} = {json.dumps(value)}" for name, value in given.items()]
    for source, values in sources.items():
        lines += [f"[sources.{source}]", *(_assigned(name, values[name]) for name in values)]
    (folder / "resultsink.toml").write_text("\n".join(lines) + "\n")


def _assigned(name: str, value: Any) -> str:
    if isinstance(value, dict):
        return f"{name} = {{ {', '.join(_assigned(key, value[key]) for key in value)} }}"
    return f"{name} = {json.dumps(value, default=str)}"


@contextmanager
def running(
    folder: Path,
    sandbox: SandboxServer,
    *,
    database_url: str | None = None,
    **changes: dict[str, Any],
) -> Iterator[Sink]:
    """A receiver with a source for each case; `changes` to their settings, by the case's name.

    Without another URL, the database is a file in the folder.
    """
    database_url = database_url or f"sqlite:///{folder}/resultsink.db"
    listening = listen("127.0.0.1", 0)
    url = "http://{}:{}".format(*listening.getsockname()[:2])
    sources = {
        name: {**case.source(sandbox, folder), **changes.get(name.replace("-", "_"), {})}
        for name, case in CASES.items()
    }
    given = {**databases.settings(database_url), "public_url": url}
    write_settings(folder, given, sources)
    settings = GivenSettings.model_validate({**given, "sources": sources})
    with closing(listening), databases.opened(database_url, serve=True) as store:
        app = create_app(settings, store=store)
        server = uvicorn.Server(
            uvicorn.Config(
                app,
                http=protocol(),
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                timeout_graceful_shutdown=1,
            )
        )
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        try:
            until(lambda: server.started or not thread.is_alive())
            yield Sink(settings, store, url)
        finally:
            server.should_exit = True
            thread.join()
        assert app.broken is None


def _nobody(_: Any) -> None:
    """Nobody wants to know."""
