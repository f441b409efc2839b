"""However badly a sender behaves, a batch ends complete and exact; and what that costs in calls."""

from benchmarks.calls import Outcome, bring_in, check
from receiver.sandbox import SandboxServer
from tests.conformance import habits
from tests.conformance.cases import Case
from tests.conformance.sink import Sink
from tests.processes import until

RUNS = 40


def test_worst_habits_cost_calls_only(case: Case, sandbox: SandboxServer, sink: Sink) -> None:
    sandbox.change(duration=(0.2, 1.5), **habits.worst(case, RUNS))
    habits.order_faults(sandbox, case, every=3)
    batch_id = sink.create(case, RUNS)
    ledger = sink.complete(batch_id, hurried=True)
    assert (ledger.stored, ledger.failed) == (RUNS, 2)
    check(case, sandbox, sink, batch_id, RUNS)
    deliveries = sandbox.state()["deliveries"]
    assert {each["status"] for each in deliveries if each["forgery"]} == {401}
    assert {each["status"] for each in deliveries if not each["forgery"]} == {200}
    assert sum(fetching_calls(sandbox).values()) < RUNS


def test_batch_ending_at_once_takes_few_calls(
    case: Case, sandbox: SandboxServer, sink: Sink
) -> None:
    outcome: Outcome = bring_in(case, sandbox, sink, RUNS)
    pages = 1 if case.announced == "run" else -(-RUNS // 100)
    assert outcome.total <= pages + 3
    assert outcome.calls == fetching_calls(sandbox)


def test_single_runs_take_one_call_each(case: Case, sandbox: SandboxServer, sink: Sink) -> None:
    sandbox.change(copies=2, hold=True)
    ids = {sink.create_alone(case, number, sandbox) for number in range(5)}
    sandbox.change(hold=False)
    count = "SELECT run_id FROM runs JOIN results ON run_pk = runs.id WHERE version = 1"
    until(lambda: {row["run_id"] for row in sink.sql(count)} == ids)
    until(lambda: sandbox.state()["pending_deliveries"] == 0)
    sink.quiet()
    assert list(fetching_calls(sandbox).values()) == [5]


def fetching_calls(sandbox: SandboxServer) -> dict[str, int]:
    """The calls that bring something in, by path."""
    calls = sandbox.state()["calls"].items()
    return {path: count for path, count in calls if path.startswith("GET")}
