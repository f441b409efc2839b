"""docs/senders/*.md: their programs are run as they stand there, with the settings given there."""

import io
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from parallel import Parallel
from parallel.types import RunInputParam, WebhookParam

from receiver.api import app
from receiver.sandbox import SandboxServer, Switches, serve_in_thread
from storage import Selection, Store
from tests import databases
from tests.databases import Maker
from tests.processes import DEADLINE, Receiver, environment, serving, until

pytestmark = pytest.mark.one_database
"""The pages are at stake, and know nothing of the database."""

PAGES = Path(__file__).parents[2] / "docs" / "senders"
COMPANIES = ["Bosch", "Siemens", "Zeiss"]
CREATED = "resultsink token create "

Ended = Mapping[str, subprocess.CompletedProcess[str]]


def programs(page: str) -> dict[str, str]:
    """The Python blocks of a page by the file names in their first lines."""
    blocks = re.findall(r"^```python\n# (\S+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) == page.count("```") / 2, "a block that nobody runs"
    return dict(blocks)


def shell_lines(page: str) -> list[str]:
    """The lines of a page's shell blocks."""
    return re.findall(r"^    (\S.*)$", re.sub(r"^```.*?^```$", "", page, flags=re.M | re.S), re.M)


def exported(page: str, folder: Path, moved: Mapping[str, str]) -> dict[str, str]:
    """Run the `export` lines of a page in a shell, and return what they set.

    `moved` are addresses that differ here.
    """
    lines = [line for line in shell_lines(page) if line.startswith("export ") and "$(" not in line]
    script = "\n".join([*lines, "env -0"])
    for address, here in moved.items():
        script = script.replace(address, here)
    said = subprocess.run(  # noqa: S603  our own pages
        ["/bin/sh", "-ec", script], env={}, cwd=folder, capture_output=True, check=True
    )
    values = dict(each.split("=", 1) for each in said.stdout.decode().split("\0") if each)
    return {name: values[name] for name in re.findall(r"export (\w+)=", "\n".join(lines))}


class Pages:
    """Both pages followed: a folder with the programs, a receiver that serves, and a token."""

    def __init__(self, folder: Path, url: str, sandbox: SandboxServer, port: int) -> None:
        self.folder = folder
        self.url = url
        self.texts = {path.stem: path.read_text("utf-8") for path in sorted(PAGES.glob("*.md"))}
        self.moved = {"127.0.0.1:9009": sandbox.url[7:], "127.0.0.1:8000": f"127.0.0.1:{port}"}
        self.variables: dict[str, str] = {"SINK_URL": f"http://127.0.0.1:{port}"}
        for text in self.texts.values():
            self.variables |= exported(text, folder, self.moved)
            self._write(text)

    def _write(self, text: str) -> None:
        for line in shell_lines(text):
            if line.startswith("echo "):
                subprocess.run(["/bin/sh", "-ec", line], cwd=self.folder, check=True)  # noqa: S603
        for name, program in programs(text).items():
            (self.folder / name).write_text(program)

    @property
    def settings(self) -> dict[str, str]:
        """The receiver's, without their prefix."""
        ours = {
            name.removeprefix("RESULTSINK_").lower(): value
            for name, value in self.variables.items()
            if name.startswith("RESULTSINK_")
        }
        return {**ours, **databases.settings(self.url)}

    def run(self, name: str) -> subprocess.CompletedProcess[str]:
        """One of the programs, to its end."""
        kept = {key: value for key, value in environment({}).items() if "proxy" not in key.lower()}
        return subprocess.run(  # noqa: S603  our own pages
            [sys.executable, name],
            env={**kept, **self.variables},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxServer]:
    """Both senders; all that is created ends at once, before the program has registered it."""
    with serve_in_thread(Switches(duration=(0, 0), first_retry_wait=0.3)) as server:
        yield server


@pytest.fixture(scope="module")
def followed(
    sandbox: SandboxServer, maker: Maker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Pages, Receiver]]:
    """The shell lines of both pages, done."""
    folder = tmp_path_factory.mktemp("pages")
    port = Receiver(folder / "log", {}).port
    with ExitStack() as stack:
        pages = Pages(folder, stack.enter_context(maker.made(folder)), sandbox, port)
        running = serving(folder / "receiver.log", pages.settings, port=port)
        served = stack.enter_context(running)
        for text in pages.texts.values():
            (line,) = [line for line in shell_lines(text) if CREATED in line]
            name, arguments = re.fullmatch(r"export (\w+)=\$\(resultsink (.*)\)", line).groups()  # type: ignore[union-attr]
            made = served.run(*shlex.split(arguments))
            assert made.returncode == 0, made.stderr
            pages.variables[name] = made.stdout.strip()
        yield pages, served


@pytest.fixture(scope="module")
def store(followed: tuple[Pages, Receiver]) -> Iterator[Store]:
    """The receiver's store, beside it."""
    with databases.opened(followed[0].url) as opened:
        yield opened


@pytest.fixture(scope="module")
def ended(followed: tuple[Pages, Receiver]) -> Ended:
    """All programs, side by side, since most of their time they wait."""
    pages, _ = followed
    names = [name for text in pages.texts.values() for name in programs(text) if name != "sink.py"]
    with ThreadPoolExecutor(len(names)) as pool:
        return dict(zip(names, pool.map(pages.run, names), strict=True))


def said(ended: Ended, name: str) -> list[str]:
    """The lines that a program printed, once it has ended well."""
    assert ended[name].returncode == 0, ended[name].stderr
    return ended[name].stdout.splitlines()


def stored(store: Store, source: str, batch_id: str | None = None) -> list[dict[str, Any]]:
    """The results of a batch, or else of the single runs of a source."""
    out = io.BytesIO()
    store.export.write(Selection(source=source, batch_id=batch_id), "json", out)
    return [each for each in json.loads(out.getvalue()) if each["batch_id"] == batch_id]


def test_every_page_is_followed(ended: Ended) -> None:
    assert sorted(ended) == ["batch.py", "group.py", "run.py", "single.py", "v0.py"]


def test_both_pages_have_the_same_helper() -> None:
    texts = [programs(path.read_text("utf-8"))["sink.py"] for path in PAGES.glob("*.md")]
    assert len(texts) == 2
    assert len(set(texts)) == 1


@pytest.mark.parametrize(
    ("name", "source"), [("batch.py", "valyu"), ("group.py", "parallel"), ("v0.py", "legacy")]
)
def test_batch_completes_and_prints_results(
    ended: Ended, store: Store, name: str, source: str
) -> None:
    text = "\n".join(said(ended, name))
    for company in COMPANIES:
        assert f"{company} completed " in text
    (batch,) = [each for each in store.batches.list_newest(source=source) if each.expected == 3]
    assert (batch.state, batch.stored, batch.failed) == ("complete", 3, 0)
    results = stored(store, source, batch.batch_id)
    assert [each["status"] for each in results if each["output"]] == ["completed"] * 3


def test_single_task_and_contents_job_complete(ended: Ended, store: Store) -> None:
    report, pages = said(ended, "single.py")
    assert report.startswith("completed [{")
    assert pages.startswith("completed ")
    assert "https://example.com" in pages
    assert len(stored(store, "valyu")) == 2


def test_single_parallel_run_completes(ended: Ended, store: Store) -> None:
    assert said(ended, "run.py")[0].startswith("completed ")
    assert len(stored(store, "parallel")) == 1


def test_unregistered_group_known_by_webhooks(
    followed: tuple[Pages, Receiver], store: Store, sandbox: SandboxServer
) -> None:
    url = f"{followed[1].url}/webhooks/parallel"
    webhook: WebhookParam = {"url": url, "event_types": ["task_run.status"]}
    with Parallel(api_key="any", base_url=sandbox.url) as client:
        group = client.task_group.create().task_group_id
        for stored in (1, 2):
            run: RunInputParam = {"input": "who?", "processor": "core", "webhook": webhook}
            client.task_group.add_runs(group, inputs=[run])
            until(partial(is_complete, store, group, stored))


def is_complete(store: Store, batch_id: str, stored: int) -> bool:
    """Return True if a batch is known, and complete with so many results."""
    known = [(each.batch_id, each.state, each.stored) for each in store.batches.list_newest()]
    return (batch_id, "complete", stored) in known


def test_webhooks_alone_brought_everything(
    ended: Ended, store: Store, sandbox: SandboxServer, followed: tuple[Pages, Receiver]
) -> None:
    assert ended
    until(lambda: sandbox.state()["pending_deliveries"] == 0)
    statuses = {each["status"] for each in sandbox.state()["deliveries"]}
    assert {200} <= statuses <= {200, 503}
    assert (store.quarantine.list_newest(), store.jobs.list_dead()) == ([], [])
    assert "Traceback" not in followed[1].log.read_text()


# --- what goes wrong ----------------------------------------------------------------------------


def promised(page: str) -> list[tuple[int, str]]:
    """Status and sentence of each row in the table of what goes wrong."""
    rows = re.findall(r"^\| (\d{3}) \| .*? \| `{1,2}(.*?)`{1,2} \|$", page, re.MULTILINE)
    return [(int(status), sentence) for status, sentence in rows]


def mistakes(client: httpx.Client) -> Iterator[tuple[int, str]]:
    """Yield the answers to the mistakes that the pages name."""
    new = {"source": "valyu", "kind": "batch", "resource": "one"}
    path = f"/endpoints/{client.post('/endpoints', json=new).json()['endpoint']}/secret"
    secret = {"secret": "a-secret-of-a-batch"}
    for response in (
        client.get("/batches", headers={"authorization": "Bearer nobody"}),
        client.get("/batches/none"),
        client.get("/runs/none?source=parallel"),
        client.put(path, json={**secret, "resource": "another"}),
        client.put(path, json={"secret": None}),
        client.post("/endpoints", json={**new, "source": "valyo"}),
        client.post("/endpoints", json={**new, "source": "legacy", "kind": "task"}),
    ):
        yield response.status_code, response.json()["detail"]


@pytest.fixture(scope="module")
def answers(followed: tuple[Pages, Receiver], store: Store) -> list[tuple[int, str]]:
    """All that the receiver says to them."""
    pages, served = followed
    for_reading = store.tokens.create("reader", ["read"]).text
    with httpx.Client(
        base_url=f"{served.url}/api/v1",
        headers={"authorization": f"Bearer {pages.variables['SINK_TOKEN']}"},
        trust_env=False,
    ) as client:
        given = list(mistakes(client))
        response = client.post("/endpoints", headers={"authorization": f"Bearer {for_reading}"})
        return [*given, (response.status_code, response.json()["detail"])]


@pytest.mark.parametrize("page", ["valyu", "parallel"])
def test_page_sentences_are_the_api_s(page: str, answers: list[tuple[int, str]]) -> None:
    rows = promised((PAGES / f"{page}.md").read_text("utf-8"))
    assert {status for status, _ in rows} == {401, 403, 404, 409, 422, 503}
    for status, sentence in rows:
        if status == 503:  # in the source, since no process can be made to say it at will
            assert f'"{sentence}"' in Path(app.__file__).read_text()
            continue
        pattern = re.escape(sentence).replace(r"\.\.\.", ".+")
        matching = [code for code, detail in answers if re.fullmatch(pattern, detail)]
        assert matching == [status], sentence
