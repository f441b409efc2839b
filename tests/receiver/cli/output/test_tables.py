"""Tables on a terminal of 80 columns: ids whole, the rest by importance; in a pipe all of it."""

import asyncio
import json
import re
from datetime import timedelta

import httpx
import pytest

from receiver.cli.output.tables import OPTIONAL, fit
from storage import FetchedBatch, Store
from tests.receiver.cli.conftest import Run
from tests.receiver.conftest import OTHER_SECRET, add_endpoint
from tests.receiver.intake.test_rejected import refused
from tests.receiver.working import a_source, announce, answering, tried_in_vain, work_off

pytestmark = [
    pytest.mark.one_database,  # what is printed is the same
    pytest.mark.usefixtures("configured"),
]

BATCH = "batch_f60f4c11-8ac8-49d4-898a-3ba1289e304a"
GROUP = "tgrp_0afe56dfde00972427732b1f274f8fc4bb58a782e711bf42"
TASK = "5493c3f0-63c7-4d37-a939-dbd49095f6cb"
NAME = "grid storage, the third quarter"


def narrow(monkeypatch: pytest.MonkeyPatch, columns: int = 80) -> None:
    """Make standard output a terminal without colours."""
    for name, value in {"TTY_COMPATIBLE": "1", "TERM": "xterm", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("COLUMNS", str(columns))


@pytest.fixture
def ids(store: Store) -> dict[str, list[str]]:
    """A store with something in every list, and the ids that each must show."""
    for source, batch_id in (("parallel", GROUP), ("valyu", BATCH)):
        store.batches.note(source, FetchedBatch(batch_id, "processing", is_terminal=False))
    endpoint_id = add_endpoint(store, BATCH, secret=OTHER_SECRET)
    announce(store, TASK, kind="task")
    tried_in_vain(store, 16)
    gone = httpx.Response(404, json={"error": "Task not found, and that is a long story to tell"})
    asyncio.run(work_off(store, a_source(), client=answering(lambda _: gone)))
    given = {"query": "What is new?"}
    store.runs.expect("valyu", TASK, endpoint_id=None, secret=None, input=given, runner="fast")
    rejected = refused(store, endpoint_id)
    token = store.tokens.create(NAME, ["read"], source="valyu", lifetime=timedelta(days=90))
    return {
        "batch": [GROUP, BATCH],
        "endpoint": [endpoint_id, BATCH],
        "event": [f"task:{TASK}"],
        "dead": [TASK],
        "task": [TASK],
        "rejected": [str(rejected), endpoint_id],
        "token": [str(token.id), "2"],
    }


@pytest.mark.parametrize("columns", [80, 70])
def test_every_list_fits_with_its_ids_whole(
    run: Run, ids: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    narrow(monkeypatch, columns)
    for group, expected in ids.items():
        out = run(group, "list").out
        assert max(map(len, plain(out).splitlines())) <= columns, out
        assert [each for each in expected if each not in out] == [], out


def test_a_pipe_gets_everything(run: Run, ids: dict[str, list[str]]) -> None:
    heads, *lines = run("batch", "list").out.splitlines()
    assert heads.split()[:3] == ["created", "at", "source"]
    assert len(lines) == 2
    (letter,) = json.loads(run("dead", "list", "--json").out)
    assert letter["reason"] in run("dead", "list").out


def test_a_wide_terminal_shows_more(
    run: Run, ids: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow(monkeypatch)
    heads = plain(run("batch", "list").out).splitlines()[0]
    assert heads.split() == ["batch", "id", "state", "stored", "failed"]
    narrow(monkeypatch, 160)
    assert "created at" in plain(run("batch", "list").out).splitlines()[0]


def test_rows_too_wide_for_a_table_are_blocks(
    run: Run, ids: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow(monkeypatch, 66)
    lines = plain(run("batch", "list").out).splitlines()
    assert sorted(line.split()[-1] for line in lines if line.startswith("batch id")) == [
        BATCH,
        GROUP,
    ]


def test_text_is_cut_before_a_column_goes() -> None:
    widths = {"id": 2, "source": 8, "reason": 90}
    assert fit(widths, 80) == {"id": 2, "source": 8, "reason": 66}
    assert fit(widths, 20) == {"id": 2, "reason": 16}
    assert fit(widths, 8) == {"id": 2}
    assert fit({"id": 40, "run_id": 37}, 78) is None


def test_ids_are_not_optional() -> None:
    assert [name for name in OPTIONAL if name.endswith("id") and name != "event_id"] == []


def plain(text: str) -> str:
    """Without the escapes of a terminal, and the blanks that fill a line."""
    return re.sub(r" +$", "", re.sub(r"\x1b\[[0-9;]*m", "", text), flags=re.MULTILINE)
