"""A batch's state, whatever is done to it: its counts agree with its tasks, and it ends once."""

from hypothesis import given, settings
from hypothesis import strategies as st

from receiver.sandbox.switches import Panel, Switches
from receiver.sandbox.valyu.records import DONE, ValyuBatch, ValyuTask
from receiver.sandbox.valyu.requests import BatchTask, CreateValyuBatch
from receiver.sandbox.valyu.state import Research
from receiver.sandbox.valyu.views import counts

HOLD = Switches(hold=True, duration=(0, 0))


def a_batch(queries: list[str]) -> tuple[Research, ValyuBatch, list[ValyuTask | ValyuBatch]]:
    announced: list[ValyuTask | ValyuBatch] = []
    research = Research(Panel(HOLD), announced.append)
    batch = research.create_batch(CreateValyuBatch(), origin="")
    research.add_tasks(batch, [BatchTask(query=query) for query in queries])
    return research, batch, announced


@settings(deadline=None)  # a machine may be busy
@given(st.lists(st.sampled_from(["q", "q [fail]", "q [stuck]"]), min_size=1), st.data())
def test_counts_agree_with_tasks_after_any_cancels(queries: list[str], data: st.DataObject) -> None:
    research, batch, announced = a_batch(queries)
    research._panel.switches = HOLD.model_copy(update={"hold": False})
    cancelled = data.draw(st.sets(st.sampled_from(batch.tasks)))
    for task in cancelled:
        research.cancel_task(task)
    research.release()
    by_status = [task.status for task in batch.tasks]
    assert counts(batch)["total"] == len(by_status)
    assert all(batch.counts[status] == by_status.count(status) for status in set(by_status))
    ended = all(status in DONE for status in by_status)
    assert announced == ([batch] if ended else [])


def test_cancelled_batch_ends_once() -> None:
    research, batch, announced = a_batch(["one", "two"])
    assert research.cancel_batch(batch) == 2
    assert (batch.status, announced) == ("cancelled", [])
