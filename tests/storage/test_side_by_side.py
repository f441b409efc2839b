"""Several processes on one database: what one does, the others know, and nothing happens twice."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import pytest
from psycopg.errors import LockNotAvailable
from sqlalchemy import Connection, Engine, event, func, select, update
from sqlmodel import SQLModel, col

import storage
from storage import (
    CannotOpen,
    CannotStore,
    FetchedBatch,
    LeaseLost,
    NewerSchema,
    NewSubmission,
    NoDatabase,
    Store,
    StoredTask,
    Submission,
    SubmissionTaken,
    SubmittedRun,
    jobs,
    migrations,
)
from storage.batches import batches
from storage.database.postgres import database as postgres
from storage.database.postgres import presence
from storage.jobs.lease import LEASE_SECONDS
from storage.models import Attempt, Delivery, Event, Job, Result
from tests import databases
from tests.databases import KEY, Maker
from tests.processes import DEADLINE
from tests.storage.build import deliver, delivery, enqueue, job, rows, run, tried

pytestmark = pytest.mark.postgres

T = TypeVar("T")


@pytest.fixture
def pair(made_url: str) -> Iterator[tuple[Store, Store]]:
    """Two stores on one database, as two machines have them."""
    with ExitStack() as stack:
        one, other = (stack.enter_context(databases.opened(made_url, serve=True)) for _ in range(2))
        yield one, other


def together(*works: Callable[[], T]) -> list[T]:
    """Do these at the same time; returns what they return, or raises what one raised."""
    barrier = threading.Barrier(len(works))

    def start(work: Callable[[], T]) -> T:
        barrier.wait(DEADLINE)
        return work()

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(start, works))


def count(store: Store, model: type[SQLModel]) -> int:
    with store.database.read() as connection:
        return connection.execute(select(func.count()).select_from(model)).scalar_one()


# --- deliveries ---------------------------------------------------------------------------------


def test_event_at_two_machines_is_one(pair: tuple[Store, Store]) -> None:
    for number in range(20):
        one = delivery(f"k{number}")
        said = together(*(partial(deliver, store, one) for store in pair))
        assert sorted(str(one) for (one,) in said) == ["accepted", "duplicate"]
    assert count(pair[0], Event) == count(pair[0], Delivery) == count(pair[0], Job) == 20
    assert all(row.copies == 1 for row in rows(pair[0].database, Delivery))


def test_groups_in_opposite_order_both_store(
    pair: tuple[Store, Store],
) -> None:
    for round_ in range(10):
        group = [delivery(f"{round_} {number}", b"%d" % number) for number in range(50)]
        one, other = together(
            partial(deliver, pair[0], *group),
            partial(deliver, pair[1], *reversed(group)),
        )
        pairs = zip(one, reversed(other), strict=True)
        assert all(sorted(map(str, both)) == ["accepted", "duplicate"] for both in pairs)


def test_differing_body_at_two_machines_kept_once(
    pair: tuple[Store, Store],
) -> None:
    for number in range(20):
        deliver(pair[0], delivery(f"k{number}"))
        other = delivery(f"k{number}", b"other")
        together(*(partial(deliver, store, other) for store in pair))
    kept = rows(pair[0].database, Delivery)
    assert len(kept) == 40
    assert sum(row.copies for row in kept) == 20
    assert count(pair[0], Job) == 40


# --- jobs ---------------------------------------------------------------------------------------


def test_slots_hold_across_processes(
    pair: tuple[Store, Store],
) -> None:
    for _ in range(40):
        enqueue(pair[0].database)
    claimed: list[int] = []
    for _ in range(10):
        both = together(*(lambda s=s: s.jobs.claim("valyu", limit=4, slots=4) for s in pair))
        leases = [lease for part in both for lease in part]
        assert len(leases) == 4
        claimed += [lease.job_id for lease in leases]
        for lease in leases:
            pair[0].jobs.finish(lease, tried())
    assert len(set(claimed)) == 40


def test_locked_job_is_skipped(store: Store, made_url: str) -> None:
    held, *free = (enqueue(store.database) for _ in range(3))
    with psycopg.connect(made_url) as other:
        other.execute("SELECT 1 FROM jobs WHERE id = %s FOR UPDATE", [held])
        claimed = store.jobs.claim("valyu", limit=3)
    assert sorted(lease.job_id for lease in claimed) == free
    assert [lease.job_id for lease in store.jobs.claim("valyu", limit=3)] == [held]


def test_fenced_job_is_unchanged_until_commit(store: Store, made_url: str) -> None:
    """Otherwise its lease could be let go of between the look and what is written upon it."""
    job_id = enqueue(store.database)
    leases = store.jobs.claim("valyu", limit=1)
    change = "SELECT 1 FROM jobs WHERE id = %s FOR NO KEY UPDATE NOWAIT"

    def work(connection: Connection) -> None:
        assert jobs.fence(connection, leases) == {leases[0].key}
        with psycopg.connect(made_url) as other, pytest.raises(LockNotAvailable):
            other.execute(change, [job_id])

    store.database.write(work)


def test_dead_machine_s_jobs_start_elsewhere(
    pair: tuple[Store, Store],
) -> None:
    job_id = enqueue(pair[0].database)
    (lease,) = pair[0].jobs.claim("valyu", limit=1)
    assert pair[1].jobs.take_over() == 0  # the other one may be alive
    assert pair[1].jobs.claim("valyu", limit=1) == []
    run_out(pair[0], job_id)
    assert pair[1].jobs.release_expired() == 1
    (again,) = pair[1].jobs.claim("valyu", limit=1)
    with pytest.raises(LeaseLost):
        pair[0].jobs.finish(lease, tried())
    with pytest.raises(LeaseLost):
        pair[0].results.store(lease, [run()], fetched_at=pair[0].now(), progress={})
    assert count(pair[0], Result) == count(pair[0], Attempt) == 0
    pair[1].jobs.finish(again, tried())
    assert job(pair[0].database, job_id).status == "done"


def run_out(store: Store, job_id: int) -> None:
    past = store.now() - timedelta(seconds=1)
    store.database.write(
        lambda c: c.execute(update(Job).where(col(Job.id) == job_id).values(lease_until=past))
    )


def test_renewed_lease_stays_exclusive(pair: tuple[Store, Store]) -> None:
    job_id = enqueue(pair[0].database)
    (lease,) = pair[0].jobs.claim("valyu", limit=1)
    run_out(pair[0], job_id)
    pair[0].jobs.renew([lease])
    assert pair[1].jobs.release_expired() == 0
    left = job(pair[0].database, job_id).lease_until - pair[1].now()
    assert timedelta(seconds=LEASE_SECONDS - 5) < left <= timedelta(seconds=LEASE_SECONDS)


def test_only_held_leases_finish_in_group(pair: tuple[Store, Store]) -> None:
    """They go into one transaction; the lost ones must not keep the others from it."""
    for _ in range(16):
        enqueue(pair[0].database)
    leases = pair[0].jobs.claim("valyu", limit=16)
    lost = {lease.job_id for lease in leases[::2]}
    for job_id in lost:
        run_out(pair[0], job_id)
    pair[1].jobs.release_expired()

    def end(lease: Any) -> int | None:
        try:
            pair[0].jobs.finish(lease, tried())
        except LeaseLost:
            return None
        return int(lease.job_id)

    ended = together(*(lambda lease=lease: end(lease) for lease in leases))
    assert {job_id for job_id in ended if job_id} == {lease.job_id for lease in leases} - lost
    assert count(pair[0], Attempt) == 8


def test_pause_is_shared_and_probed_once(
    pair: tuple[Store, Store],
) -> None:
    for _ in range(4):
        enqueue(pair[0].database)
    (lease,) = pair[0].jobs.claim("valyu", limit=1)
    pair[0].sources.pause(lease, tried("paused", "bad key", start=pair[0].now()), after=60)
    assert pair[1].jobs.claim("valyu", limit=4) == []
    pair[1].sources.probe_now()
    probes = together(*(lambda s=s: s.jobs.claim("valyu", limit=4) for s in pair))
    assert sum(map(len, probes)) == 1


# --- results and batches ------------------------------------------------------------------------


def test_same_runs_from_two_are_stored_once(pair: tuple[Store, Store]) -> None:
    pages = [[run(f"r{number}", output=number) for number in range(40)] for _ in pair]
    pages[1].reverse()
    for store in pair:
        enqueue(store.database)
    leases = [store.jobs.claim("valyu", limit=1)[0] for store in pair]
    together(
        *(
            lambda s=s, lease=lease, page=page: s.results.store(
                lease, page, fetched_at=s.now(), progress={}
            )
            for s, lease, page in zip(pair, leases, pages, strict=True)
        )
    )
    stored = rows(pair[0].database, Result)
    assert sorted(row.output for row in stored) == list(range(40))
    assert {row.version for row in stored} == {1}


def test_concurrent_addition_never_completes_too_early(
    pair: tuple[Store, Store],
) -> None:
    """One settles what it has counted, while the other adds a run."""
    for number in range(15):
        name, shown = f"b{number}", FetchedBatch(f"b{number}", "completed", True, total=1, ended=1)
        pair[0].batches.register("valyu", name, endpoint_id=None)
        pair[0].batches.add_runs("valyu", name, [SubmittedRun(f"{name} 1", None, None)])
        pair[0].batches.check("valyu", name)
        (lease,) = pair[0].jobs.claim("valyu", limit=1)
        page = [run(f"{name} 1", batch_id=name)]
        pair[0].results.store(lease, page, fetched_at=pair[0].now(), progress={})

        def settle_and_end(lease: Any = lease, shown: FetchedBatch = shown) -> None:
            pair[0].batches.settle(lease, shown)
            pair[0].jobs.finish(lease, tried(start=pair[0].now()))

        def add(name: str = name) -> None:
            pair[1].batches.add_runs("valyu", name, [SubmittedRun(f"{name} 2", None, None)])

        together(settle_and_end, add)
        ledger = pair[0].batches.ledger(name)
        assert (ledger.state, ledger.expected, ledger.stored) == ("open", 2, 1)
        live = [
            row for row in rows(pair[0].database, Job) if row.subject == name and not row.ended_at
        ]
        assert len(live) == 1, "nobody looks at the open batch any more"


def test_runs_during_addition_count_once(pair: tuple[Store, Store]) -> None:
    for number in range(10):
        name = f"b{number}"
        pair[0].batches.register("valyu", name, endpoint_id=None)
        enqueue(pair[0].database)
        (lease,) = pair[0].jobs.claim("valyu", limit=1)
        ids = [f"{name} {run_}" for run_ in range(30)]
        page = [run(run_id, batch_id=name) for run_id in ids]
        added = [SubmittedRun(run_id, None, None) for run_id in ids]
        moment = pair[0].now()
        together(
            partial(pair[0].results.store, lease, page, fetched_at=moment, progress={}),
            partial(pair[1].batches.add_runs, "valyu", name, added),
        )
        assert pair[0].batches.ledger(name).expected == 30


def test_one_of_two_goes_on_with_a_submission(pair: tuple[Store, Store]) -> None:
    new = NewSubmission("valyu", "batch")
    begun = pair[0].submissions.begin(new, [StoredTask(None, {"query": "q"}, {})])

    def go_on(store: Store, known: Submission) -> str:
        try:
            return store.submissions.calling(known, "batch").owner
        except SubmissionTaken:
            return "taken"

    for _ in range(10):
        mine, yours = (store.submissions.find(begun.id) for store in pair)
        outcomes = together(partial(go_on, pair[0], mine), partial(go_on, pair[1], yours))
        assert outcomes in ([mine.owner, "taken"], ["taken", yours.owner])


def _a_page(store: Store, lease: Any) -> None:
    page = [run("r1", batch_id="b")]
    store.results.store(lease, page, fetched_at=store.now(), progress={})


VERBS: dict[str, Callable[[Store, Any], Any]] = {
    "add runs": lambda s, _: s.batches.add_runs("valyu", "b", [SubmittedRun("r1", None, None)]),
    "save": lambda s, lease: s.batches.save(lease, FetchedBatch("b", "running", False)),
    "settle": lambda s, lease: s.batches.settle(
        lease, FetchedBatch("b", "completed", True, total=0)
    ),
    "end its job": lambda s, lease: s.jobs.finish(lease, tried(start=s.now())),
    "bring a page": _a_page,
}


@pytest.mark.parametrize("verb", VERBS)
def test_batch_counting_is_serialized(store: Store, made_url: str, verb: str) -> None:
    """Otherwise two counts would pass each other by, and neither see what the other adds."""
    store.batches.register("valyu", "b", endpoint_id=None)
    store.batches.check("valyu", "b")
    (lease,) = store.jobs.claim("valyu", limit=1)
    with ThreadPoolExecutor(1) as pool:
        with psycopg.connect(made_url) as other:
            other.execute("SELECT 1 FROM batches FOR UPDATE")
            waiting = pool.submit(VERBS[verb], store, lease)
            with pytest.raises(TimeoutError):
                waiting.result(0.5)
        waiting.result(10)


def test_run_added_while_settling_is_counted(store: Store, made_url: str) -> None:
    store.batches.register("valyu", "b", endpoint_id=None)
    store.batches.check("valyu", "b")
    (lease,) = store.jobs.claim("valyu", limit=1)
    _a_page(store, lease)
    all_there = FetchedBatch("b", "completed", True, total=1, ended=1)
    with ThreadPoolExecutor(1) as pool:
        with psycopg.connect(made_url) as other:
            other.execute("SELECT 1 FROM batches FOR UPDATE")
            other.execute(
                "INSERT INTO runs (source, run_id, batch_id, status)"
                " VALUES ('valyu', 'r2', 'b', 'queued')"
            )
            settling = pool.submit(store.batches.settle, lease, all_there)
            with pytest.raises(TimeoutError):
                settling.result(0.5)
        assert settling.result(10).state == "open"


def test_pages_of_batch_do_not_block(store: Store, made_url: str) -> None:
    store.batches.register("valyu", "b", endpoint_id=None)
    enqueue(store.database)
    (lease,) = store.jobs.claim("valyu", limit=1)
    with psycopg.connect(made_url) as other:
        other.execute("SELECT 1 FROM batches FOR KEY SHARE")
        _a_page(store, lease)
    assert store.batches.ledger("b").stored == 1


def test_deadlock_victim_starts_again(pair: tuple[Store, Store]) -> None:
    for name in ("a", "b"):
        pair[0].batches.register("valyu", name, endpoint_id=None)
    have_one = threading.Barrier(2)
    tries: list[str] = []

    def lock(first: str, second: str) -> Callable[[Any], None]:
        def work(connection: Any) -> None:
            batches.lock(connection, "valyu", first)
            tries.append(first)
            if len(tries) <= 2:
                have_one.wait(DEADLINE)
            batches.lock(connection, "valyu", second)

        return work

    together(
        lambda: pair[0].database.write(lock("a", "b")),
        lambda: pair[1].database.write(lock("b", "a")),
    )
    assert len(tries) == 3


# --- endpoints ----------------------------------------------------------------------------------


def test_every_endpoint_change_raises_the_revision(
    pair: tuple[Store, Store],
) -> None:
    before = pair[0].endpoints.revision()
    for _ in range(10):
        together(*(lambda s=s: s.endpoints.add("valyu", "account") for s in pair))
    assert pair[0].endpoints.revision() == before + 20


def test_watcher_sees_commits_that_began_earlier(store: Store, made_url: str) -> None:
    with psycopg.connect(made_url) as other, store.watch() as version:
        other.execute("INSERT INTO meta VALUES ('older', '')")
        enqueue(store.database)
        seen = version()
        other.commit()
        assert version() != seen


def test_hint_reaches_other_processes(pair: tuple[Store, Store]) -> None:
    notified = threading.Event()
    pair[1].listen(notified.set)
    pair[0].hint()
    assert notified.wait(DEADLINE)


# --- the clock ----------------------------------------------------------------------------------


def test_all_share_the_server_s_clock(
    pair: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our own may be wrong, and may jump."""
    monkeypatch.setattr("time.time", lambda: 0.0)
    with pair[0].database.read() as connection:
        theirs = connection.execute(select(func.clock_timestamp())).scalar_one()
    for store in pair:
        assert abs(store.now() - theirs) < timedelta(seconds=DEADLINE)  # ours is at 1970


def test_stalled_answer_does_not_move_clock(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def look(prompt_seconds: float) -> None:
        monkeypatch.setattr(postgres, "PROMPT_SECONDS", prompt_seconds)
        with store.database.read() as connection:
            store.database.look_at_clock(connection)

    look(DEADLINE)
    monkeypatch.setattr(postgres, "CLOCK", f"{presence.CLOCK} FROM pg_sleep(1)")
    before, right, after = time.monotonic(), store.now(), time.monotonic()
    look(0.05)
    later, now, at_last = time.monotonic(), store.now(), time.monotonic()
    rounded = timedelta(milliseconds=1)
    assert timedelta(seconds=later - after) - rounded <= now - right
    assert now - right <= timedelta(seconds=at_last - before) + rounded


def test_server_lost_during_clock_read_is_temporary(store: Store, made_url: str) -> None:
    """Whoever waits for the database to recover must be told so in its words."""

    def work(connection: Any) -> None:
        pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        with psycopg.connect(made_url, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
        store.database.look_at_clock(connection)

    with pytest.raises(CannotStore):
        store.database.write(work)
    assert store.jobs.release_expired() == 0


# --- the schema ---------------------------------------------------------------------------------


@pytest.fixture
def bare(maker: Maker, tmp_path: Path) -> Iterator[str]:
    """A database without tables."""
    url = maker.bare(tmp_path)
    yield url
    maker.drop(url)


def test_schema_is_made_once_by_many(bare: str) -> None:
    before = together(*(lambda: storage.upgrade(bare, [KEY]) for _ in range(4)))
    assert sorted(str(one) for one in before) == sorted(["None", *[migrations.HEAD] * 3])


def test_database_without_tables_is_refused(bare: str) -> None:
    with pytest.raises(NoDatabase, match="run `resultsink db upgrade`"):
        storage.open(bare, [KEY])


@pytest.mark.parametrize(
    ("revision", "error", "says"),
    [
        ("0001", CannotOpen, "run `resultsink db upgrade`"),
        ("9999", NewerSchema, "install the newer resultsink"),
    ],
)
def test_other_schema_version_is_refused(
    made_url: str, revision: str, error: type[CannotOpen], says: str
) -> None:
    with psycopg.connect(made_url, autocommit=True) as connection:
        connection.execute("UPDATE alembic_version SET version_num = %s", [revision])
    with pytest.raises(error, match=says):
        storage.open(made_url, [KEY])


def test_foreign_database_is_left_alone(bare: str) -> None:
    with psycopg.connect(bare, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA resultsink; CREATE TABLE resultsink.theirs (id int)")
    with pytest.raises(CannotOpen, match="another program"):
        storage.upgrade(bare, [KEY])


def test_the_wrong_key_is_refused(made_url: str) -> None:
    with pytest.raises(storage.WrongKey):
        storage.open(made_url, [storage.new_key()])


@pytest.mark.parametrize("url", ["postgresql://nobody@127.0.0.1:1/x", "postgresql://u@/x?host=/no"])
def test_unreachable_server_hides_the_password(url: str) -> None:
    with pytest.raises(CannotOpen, match="cannot be opened") as refusal:
        storage.open(url.replace("@", ":hunter2@"), [KEY])
    assert "hunter2" not in str(refusal.value)


def test_served_as_long_as_anyone_serves(made_url: str) -> None:
    with databases.opened(made_url) as beside:
        assert not beside.is_served()
        with databases.opened(made_url, serve=True):
            assert beside.is_served()
        assert not beside.is_served()


def test_repeat_during_pruning_is_kept_whole(made_url: str) -> None:
    """Another machine prunes between our look whether it is there and our lock on it."""
    pruned = threading.Event()

    def prune(*args: Any) -> None:
        if ".events" in args[2] and "FOR UPDATE" in args[2] and not pruned.is_set():
            pruned.set()
            with psycopg.connect(made_url) as other:
                other.execute("DELETE FROM jobs; DELETE FROM deliveries; DELETE FROM events")

    with databases.opened(made_url) as store:
        deliver(store, delivery(body=b"first"))
        event.listen(Engine, "before_cursor_execute", prune)
        try:
            group = [delivery(body=body) for body in (b"A", b"B", b"A")]
            assert deliver(store, *group) == ["duplicate"] * 3
        finally:
            event.remove(Engine, "before_cursor_execute", prune)
        kept = {(row.body, row.copies) for row in rows(store.database, Delivery)}
        assert kept == {(b"A", 1), (b"B", 0)}
        assert len(rows(store.database, Event)) == 1
        assert {row.status for row in rows(store.database, Job)} == {"pending"}
