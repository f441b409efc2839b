"""The calls that checks of an open batch cost, with and without somebody who waits."""

from typing import Any

import pytest

from receiver.sandbox import SandboxServer
from storage import Store
from tests.receiver import working
from tests.receiver.working import (
    LISTS,
    a_batch,
    a_source,
    in_seconds,
    job,
    jobs,
    known,
    ledger,
    make_due,
    sql,
    work_off,
)

# The decisions are at stake, no SQL.
pytestmark = pytest.mark.one_database

running_sender, sender = working.running_sender, working.sender

STATUS = "GET /deepresearch/batches/{batch_id}"


def a_batch_that_goes_on(store: Store, sender: SandboxServer, ended: int, going: int) -> str:
    batch_id, _ = a_batch(sender, [*map(str, range(ended)), *["q [stuck]"] * going])
    known(store, batch_id)
    return batch_id


async def check(store: Store, sender: SandboxServer, batch_id: str, *, waited: bool) -> Any:
    """Check the batch, and return the calls that it cost: status calls, pages."""
    before = sender.state()["calls"]
    if waited:
        store.batches.want_check("valyu", batch_id)
    else:
        make_due(store)
    await work_off(store, a_source(sender.api_url))
    after = sender.state()["calls"]
    return tuple(after.get(call, 0) - before.get(call, 0) for call in (STATUS, LISTS))


def let_time_pass(store: Store) -> None:
    """The last listing of every batch was long ago."""
    for each in jobs(store):
        progress = each["progress"].replace('"listed_at": "2', '"listed_at": "1')
        sql(store, "UPDATE jobs SET progress = ? WHERE id = ?", progress, each["id"])


async def test_check_without_news_costs_one_call(store: Store, sender: SandboxServer) -> None:
    batch_id = a_batch_that_goes_on(store, sender, 0, 3)
    assert await check(store, sender, batch_id, waited=False) == (1, 0)
    assert await check(store, sender, batch_id, waited=True) == (1, 0)


async def test_hour_without_a_word_costs_six_calls(store: Store, sender: SandboxServer) -> None:
    batch_id = a_batch_that_goes_on(store, sender, 0, 3)
    minutes = in_seconds(job(store)) / 60
    while minutes < 65:
        assert await check(store, sender, batch_id, waited=False) == (1, 0)
        minutes += in_seconds(job(store)) / 60
    assert sender.state()["calls"][STATUS] == 6


async def test_check_lists_where_half_is_new(store: Store, sender: SandboxServer) -> None:
    sender.change(max_page_size=2)
    batch_id = a_batch_that_goes_on(store, sender, 2, 2)
    assert await check(store, sender, batch_id, waited=False) == (1, 2)
    working.more_tasks(sender, batch_id, 1)
    assert await check(store, sender, batch_id, waited=False) == (1, 0)
    working.more_tasks(sender, batch_id, 1)
    assert await check(store, sender, batch_id, waited=False) == (1, 3)
    assert ledger(store, batch_id).stored == 4


async def test_waited_check_lists_whatever_is_new(store: Store, sender: SandboxServer) -> None:
    batch_id = a_batch_that_goes_on(store, sender, 3, 1)
    assert await check(store, sender, batch_id, waited=True) == (1, 1)
    working.more_tasks(sender, batch_id, 1)
    assert await check(store, sender, batch_id, waited=True) == (1, 0)  # too soon
    let_time_pass(store)
    assert await check(store, sender, batch_id, waited=True) == (1, 1)
    assert ledger(store, batch_id).stored == 4
