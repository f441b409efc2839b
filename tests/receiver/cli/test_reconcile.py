"""resultsink reconcile and verify: figures, sentences and exit codes."""

import json
from collections.abc import Callable

import pytest

from receiver.sandbox import SandboxServer
from storage import Store
from tests.receiver import working
from tests.receiver.cli.conftest import Run
from tests.receiver.working import a_batch, known, sql

# No SQL is at stake: reconciling and verifying are tested on both databases in tests/receiver/work.
pytestmark = pytest.mark.one_database

running_sender, sender = working.running_sender, working.sender


@pytest.fixture(autouse=True)
def reachable(configured: Callable[..., None], sender: SandboxServer) -> None:
    """The sandbox is the sender."""
    configured(sources__valyu__base_url=sender.api_url)


def test_reconcile_says_what_it_did(run: Run, store: Store, sender: SandboxServer) -> None:
    known(store, a_batch(sender, 2)[0])
    ended = run("reconcile")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == "valyu: 1 looked at, 2 runs found, 2 results fetched (4 calls).\n"


def test_reconcile_names_what_is_left(run: Run, store: Store, sender: SandboxServer) -> None:
    sender.add_fault(match="GET /deepresearch/batches", status=429, retry_after=60)
    ended = run("reconcile", "--source", "valyu", "--since", "2h")
    assert ended.code == 1
    assert ended.err.splitlines() == [
        "valyu: incomplete: the sender's list of batches: the sender answered 429: Too many "
        "requests (it asks to wait 60 s).",
        "valyu: not everything could be looked at. Once that is mended, the same command goes on: "
        "resultsink reconcile --source valyu",
    ]


def test_reconcile_is_readable_by_programs(run: Run, store: Store, sender: SandboxServer) -> None:
    batch_id, _ = a_batch(sender, 1)
    shown = json.loads(run("reconcile", "--adopt", batch_id, "--json").out)
    (source,) = shown["sources"]
    assert (shown["is_complete"], source["adopted"], source["fetched"]) == (True, [batch_id], 1)


def test_known_batch_is_adopted_without_its_source(
    run: Run, store: Store, sender: SandboxServer, configured: Callable[..., None]
) -> None:
    configured(sources__parallel__api_key="key")
    batch_id, _ = a_batch(sender, 1)
    asked = run("reconcile", "--adopt", batch_id).sentence
    assert asked == f"Say whose batch {batch_id} is: add --source (parallel, valyu)."
    known(store, batch_id)
    assert run("reconcile", "--adopt", batch_id).code == 0
    announced, _ = a_batch(sender, 1)
    store.endpoints.add("valyu", "batch", resource=announced)
    assert run("reconcile", "--adopt", announced).code == 0


def test_endpoint_waits(run: Run, store: Store) -> None:
    store.endpoints.add("valyu", "batch")
    assert ", 1 endpoint waits for what it is for (" in run("reconcile").out


def test_unknown_batch_is_not_adopted(run: Run, store: Store) -> None:
    ended = run("reconcile", "--adopt", "b9")
    sentence = "b9 was not adopted: the sender answered 404: Batch not found."
    assert (ended.code, ended.sentence) == (1, sentence)


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (["reconcile", "--since", "soon"], "--since 'soon' is no duration: write it like "),
        (["reconcile", "--task", "t"], "--task is the stored task of the batch in --adopt: "),
        (["verify"], "Say what to compare: --batch ID, --source SOURCE, or --all."),
        (["verify", "--all", "--source", "valyu"], "Say what to compare: "),
        (["verify", "--batch", "b9"], "There is no batch b9: see `batch list`."),
    ],
)
def test_unclear_wish_is_refused(run: Run, store: Store, command: list[str], sentence: str) -> None:
    ended = run(*command)
    assert (ended.code, ended.sentence.startswith(sentence)) == (2, True)


@pytest.mark.parametrize("command", [["reconcile"], ["verify", "--all"]])
def test_source_without_a_key_is_not_asked(
    run: Run, store: Store, configured: Callable[..., None], command: list[str]
) -> None:
    configured(sources__valyu__api_key=None)
    ended = run(*command)
    assert (ended.code, ended.sentence.startswith("Source valyu cannot be asked without")) == (
        2,
        True,
    )
    assert store.sources.list_paused() == []


def test_verify_exits_1_until_repaired(run: Run, store: Store, sender: SandboxServer) -> None:
    batch_id, (run_id,) = a_batch(sender, 1)
    known(store, batch_id)
    run("reconcile")
    assert run("verify", "--all").out == "valyu: 1 run compared, 0 differ (2 calls).\n"
    sql(store, "UPDATE results SET digest = ?", b"x")
    shown = json.loads(run("verify", "--batch", batch_id, "--json").out)
    (drift,) = shown["sources"][0]["drift"]
    assert (shown["is_same"], drift["run_id"], drift["kind"]) == (False, run_id, "content differs")
    differs = run("verify", "--source", "valyu")
    assert (differs.code, "content differs" in differs.out) == (1, True)
    assert differs.err == "To store what the sender shows: the same command with --repair\n"
    repaired = run("verify", "--source", "valyu", "--repair")
    assert (repaired.code, repaired.err, "1 repaired" in repaired.out) == (0, "", True)
