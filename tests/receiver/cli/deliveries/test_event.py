"""resultsink event, dead: what came, what became of it, and working it again."""

import asyncio
import io
import json

import httpx
import pytest

from storage import Store
from tests.receiver.cli.conftest import Run
from tests.receiver.working import a_source, announce, answering, sql, tried_in_vain, work_off

ESCAPE = "\x1b]0;pwned\x07"


def bury(store: Store, body: bytes = b"{}") -> None:
    """An event whose run the sender has forgotten."""
    announce(store, "t1", kind="task", body=body)
    tried_in_vain(store, 16)
    forgotten = httpx.Response(404, json={"error": f"Task not found [here] {ESCAPE}"})
    asyncio.run(work_off(store, a_source(), client=answering(lambda _: forgotten)))


def test_events_are_listed_newest_first(run: Run, store: Store) -> None:
    for name in ("t1", "t2"):
        announce(store, name, kind="task")
    shown = json.loads(run("event", "list", "--json").out)
    assert [(each["id"], each["deliveries"], each["jobs"]) for each in shown] == [
        (2, 1, "pending"),
        (1, 1, "pending"),
    ]
    assert run("event", "list", "--limit", "1").out.count("task:t") == 1


def test_show_prints_body_jobs_and_attempts(run: Run, store: Store) -> None:
    bury(store, b'{"deepresearch_id": "t1"}')
    text = run("event", "show", "1").out
    assert '{"deepresearch_id": "t1"}' in text
    assert "job 1 (fetch t1) is dead: the sender answered 404: Task not found [here]" in text
    assert "dead: the sender answered 404: Task not found [here]" in text.splitlines()[-1]


@pytest.mark.parametrize("body", [b"x" * 32, b"x" * 16, "ä€".encode(), b"\xff\x00"])
def test_json_event_has_a_recoverable_body(run: Run, store: Store, body: bytes) -> None:
    announce(store, "t1", kind="task", body=body)
    shown = json.loads(run("event", "show", "1", "--json").out)
    (delivery,) = shown["deliveries"]
    assert delivery["body"] == body.decode("utf-8", "backslashreplace")
    assert len(bytes.fromhex(delivery["digest"])) == 32


def test_control_characters_are_replaced(run: Run, store: Store) -> None:
    bury(store, f"one\ntwo {ESCAPE}".encode())
    sql(store, "UPDATE deliveries SET headers = ?", f"x-a: 1\nx-b: {ESCAPE}")
    for arguments in (["event", "show", "1"], ["dead", "list"], ["event", "list"]):
        ended = run(*arguments)
        assert ended.code == 0
        assert not {"\x1b", "\x07"} & set(ended.out + ended.err)
    assert "one\ntwo �]0;pwned�" in run("event", "show", "1").out


def test_dead_letter_is_replayed_once(run: Run, store: Store) -> None:
    bury(store)
    (dead,) = json.loads(run("dead", "list", "--json").out)
    assert dead["reason"].startswith("the sender answered 404")
    assert "Task not found [here]" in run("dead", "list").out
    replayed = run("dead", "replay", str(dead["id"]))
    assert (replayed.code, replayed.err) == (0, "Job 1 waits to be worked again.\n")
    assert json.loads(run("dead", "list", "--json").out) == []
    assert run("dead", "replay", str(dead["id"])).code == 2


def test_empty_lists_say_so(run: Run, store: Store) -> None:
    assert run("dead", "list").err == "There are no dead letters.\n"
    assert run("event", "list").err == "There are no events yet.\n"
    assert run("dead", "list", "--json").out == "[]\n"


# --- replay -------------------------------------------------------------------------------------


def test_replay_counts_and_shows_before_it_acts(run: Run, store: Store) -> None:
    bury(store)
    ended = run("event", "replay", "--status", "dead", "--dry-run")
    assert (ended.code, ended.err) == (0, "1 event matches:\n")
    assert "the sender answered 404: Task not found [here]" in ended.out
    assert run("event", "list").out.count("dead") == 1


def test_replay_needs_a_yes(run: Run, store: Store) -> None:
    bury(store)
    refused = run("event", "replay", "--source", "valyu", "--since", "2h")
    assert refused.code == 2
    assert refused.err.splitlines()[-1] == (
        "resultsink: 1 event was not replayed: nobody can be asked here, add --yes."
    )
    ended = run("event", "replay", "--source", "valyu", "--since", "2h", "--yes")
    assert (ended.code, ended.err.splitlines()[-1]) == (0, "1 event waits to be worked on again.")
    assert sql(store, "SELECT status FROM jobs") == [{"status": "pending"}]


class Terminal(io.StringIO):
    """Standard input of somebody who can be asked."""

    def isatty(self) -> bool:
        return True


def test_replay_says_no_on_a_terminal(
    run: Run, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    bury(store)
    monkeypatch.setattr("tests.receiver.cli.conftest.io.StringIO", Terminal)
    ended = run("event", "replay", "1", stdin="n\n")
    assert (ended.code, ended.err.endswith("Nothing was replayed.\n")) == (1, True)
    assert run("event", "replay", "1", stdin="y\n").code == 0


def test_replay_is_figures_for_programs(run: Run, store: Store) -> None:
    announce(store, "t1", kind="task")
    ended = run("event", "replay", "1", "--json", "--yes")
    assert json.loads(ended.out) == {
        "replayable": 0,
        "waiting": 1,
        "unusable": 0,
        "replayed": 0,
        "dry_run": False,
    }


@pytest.mark.parametrize("command", [["event", "replay"], ["export", "--all"]])
def test_unknown_status_is_named_without_a_library(run: Run, command: list[str]) -> None:
    ended = run(*command, "--status", "bogus")
    assert (ended.code, "Invalid value for '--status': 'bogus' is not one of" in ended.err) == (
        2,
        True,
    )


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ([], "Say which events: IDs, or a filter such as --source, --since, --status."),
        (["--since", "soon"], "--since 'soon' is no time: write it like 90m, 2h or 7d (ago), "),
    ],
)
def test_unclear_replay_is_refused(
    run: Run, store: Store, options: list[str], sentence: str
) -> None:
    ended = run("event", "replay", *options)
    assert (ended.code, ended.sentence.startswith(sentence)) == (2, True)
