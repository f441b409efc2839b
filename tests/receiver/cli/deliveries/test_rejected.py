"""resultsink rejected: why it was refused, and the way in for what is genuine after all."""

import json

import pytest

from storage import Store
from tests.receiver.cli.conftest import Run
from tests.receiver.conftest import OTHER_SECRET, SECRET, add_endpoint, batch_body, fetches, signed
from tests.receiver.intake.test_rejected import refused

pytestmark = pytest.mark.usefixtures("configured")


def test_help_says_what_senders_saw(run: Run) -> None:
    assert "senders only ever saw a 401" in " ".join(run("rejected", "list", "--help").out.split())


def test_refusal_is_explained(run: Run, store: Store) -> None:
    kept = refused(store, add_endpoint(store), headers=[*signed(b"{ }"), (b"x-note", b"\x1b[2J")])
    ended = run("rejected", "show", str(kept))
    assert (ended.code, ended.err) == (0, "")
    for line in (
        "scheme  timestamp.body",
        "header  x-webhook-signature came",
        "tried  this endpoint's secret, read as text",
        "clock  signed",
        "what to do  No registered secret fits",
        "x-note: �[2J",
        batch_body().decode(),
    ):
        assert line in ended.out
    assert SECRET not in ended.out


def test_the_explanation_is_json_for_programs(run: Run, store: Store) -> None:
    kept = refused(store, add_endpoint(store, secret=OTHER_SECRET))
    shown = json.loads(run("rejected", "show", str(kept), "--json").out)
    assert shown["body"] == batch_body().decode()
    assert shown["diagnosis"]["would_match"] is None
    assert shown["diagnosis"]["tried"][0]["readings"] == ["text"]
    assert ["x-webhook-timestamp", True] in [
        [each["header"], each["came"]] for each in shown["diagnosis"]["headers"]
    ]


def test_what_would_have_matched_is_told(run: Run, store: Store) -> None:
    endpoint_id = add_endpoint(store)
    other = add_endpoint(store, "other", secret=OTHER_SECRET)
    kept = refused(store, endpoint_id, secret=OTHER_SECRET)
    out = run("rejected", "show", str(kept)).out
    assert f"would match  secret: endpoint {other}, reading: text" in out


def test_long_body_is_cut(run: Run, store: Store) -> None:
    kept = refused(store, add_endpoint(store), b"\x00" * 5000)
    assert "... 1000 characters more" in run("rejected", "show", str(kept)).out


def test_retry_of_one_sets_the_exit_code(run: Run, store: Store) -> None:
    endpoint_id = add_endpoint(store, secret=OTHER_SECRET)
    kept = refused(store, endpoint_id)
    ended = run("rejected", "retry", str(kept))
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == "0 let in, 1 stay.\n     1  no signature fits any of 1 keys\n"
    store.endpoints.set_secret(endpoint_id, SECRET)
    ended = run("rejected", "retry", str(kept))
    assert (ended.code, ended.err) == (0, "1 let in, 0 stay.\n")
    assert len(fetches(store)) == 1
    assert run("rejected", "retry", str(kept)).code == 2


def test_all_are_tried_and_counted(run: Run, store: Store) -> None:
    endpoint_id = add_endpoint(store)
    kept = [refused(store, endpoint_id) for _ in range(3)]
    kept.append(refused(store, endpoint_id, secret=OTHER_SECRET))
    kept.append(refused(store, None, source="gone"))
    ended = run("rejected", "retry", "--all", "--source", "valyu")
    assert ended.code == 0
    assert ended.err.startswith("3 let in (2 of them known before), 1 stay.\n")
    printed = json.loads(run("rejected", "retry", "--all", "--json").out)
    assert [each["id"] for each in printed["stay"]] == kept[3:]
    assert printed["let_in"] == []


@pytest.mark.parametrize("arguments", [[], ["1", "--all"], ["1", "--source", "valyu"]])
def test_it_must_be_said_which(run: Run, store: Store, arguments: list[str]) -> None:
    ended = run("rejected", "retry", *arguments)
    assert ended.code == 2
    assert ended.sentence.startswith("Say which one: an ID, or --all")


@pytest.mark.parametrize("command", ["show", "retry"])
def test_what_is_not_there_is_named(run: Run, store: Store, command: str) -> None:
    ended = run("rejected", command, "7")
    assert (ended.code, ended.sentence) == (
        2,
        "There is no refused request 7: see `rejected list`.",
    )
