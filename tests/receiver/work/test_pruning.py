"""Pruning at intervals: bounded looks, and no fault of it ends the service."""

import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from structlog.testing import CapturingLogger

from receiver.app import create_app
from receiver.errors import UsageError
from receiver.settings import RetentionSettings, Settings, SourceSettings, load
from receiver.signatures.schemes import (
    BEARER,
    BODY,
    STANDARD_WEBHOOKS,
    TIMESTAMP_BODY,
    AnyScheme,
    Bearer,
)
from receiver.work import pruning
from receiver.work.pruning import Pruning, ages
from storage import Ages, CannotStore, Step, Store, clock, now
from storage.models import Delivery
from tests.receiver.conftest import locked, until
from tests.storage.build import rows
from tests.storage.test_retention import record, work_off

DAY = timedelta(days=1)
AGES = Ages(deliveries=DAY, attempts=DAY, events=4 * DAY)


async def no_sleep(_seconds: float) -> None:
    """A pause that takes no time."""


class Clock:
    """A clock that moves by a step whenever it is looked at."""

    def __init__(self, step: float = 0.0) -> None:
        self.now = 0.0
        self.step = step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def old(store: Store, *keys: str) -> None:
    """Events that came ten days ago, and whose work ended then."""
    record(store.database, *keys, now=now() - 10 * DAY)
    work_off(store.database, now=now() - 10 * DAY)


def left(store: Store) -> list[str]:
    return [event["key"] for event in store.events.list_newest()]


# --- the clock ----------------------------------------------------------------------------------


async def test_look_prunes_everything_old(store: Store) -> None:
    old(store, "1", "2")
    record(store.database, "young", now=now())
    assert await Pruning(store, AGES, sleep=no_sleep).look() is False
    assert left(store) == ["young"]


async def test_look_ends_in_time_and_continues(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "LOOK_SECONDS", 10.0)
    monkeypatch.setattr("storage.retention.walk.STEP_ROWS", 1)
    old(store, *map(str, range(9)))
    clock = Clock(step=0.5)
    looking = Pruning(store, AGES, clock=clock, sleep=no_sleep)
    assert await looking.look() is True
    some = len([row for row in rows(store.database, Delivery) if row.body])
    assert 0 < some < 9
    for _ in range(3):  # what hangs on it may go a lap earlier
        while await looking.look():
            pass
        clock.now += 86_400
    assert left(store) == []


async def test_retained_rows_are_revisited_daily(store: Store) -> None:
    clock = Clock()
    record(store.database, "1", now=now() - 10 * DAY)
    looking = Pruning(store, AGES, clock=clock, sleep=no_sleep)
    await looking.look()
    work_off(store.database, now=now() - 10 * DAY)
    await looking.look()
    assert left(store) == ["1"]
    clock.now += 86_400
    await looking.look()
    assert left(store) == []


async def test_forward_clock_prunes_nothing_for_day(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    right, ahead = now, [timedelta()]
    record(store.database, "young", now=now())
    work_off(store.database, now=now())
    for module in (store, store.database):
        monkeypatch.setattr(module, "now", lambda: right() + ahead[0])
    clock = Clock()
    looking = Pruning(store, AGES, clock=clock, sleep=no_sleep)
    ahead[0] = 365 * DAY
    await looking.look()
    clock.now += 3_600
    ahead[0] += timedelta(hours=1)
    await looking.look()
    assert left(store) == ["young"]
    clock.now += pruning.WAIT_SECONDS  # it was right after all
    ahead[0] += DAY
    for _ in range(3):
        await looking.look()
        clock.now += 86_400
        ahead[0] += DAY
    assert left(store) == []


async def test_start_after_leap_prunes_nothing(store: Store) -> None:
    old(store, "old")
    store.database.write(lambda c: clock.note(c, now=now() - 2 * DAY))
    looking = Pruning(store, AGES, sleep=no_sleep)
    assert not await looking.look()
    assert left(store) == ["old"]


class Stub:
    """A store whose pruning takes these steps."""

    def __init__(self, *steps: Step | Exception) -> None:
        self.steps = list(steps)
        self.pruned: list[tuple[str, int]] = []

    def now(self) -> datetime:
        return now()

    @property
    def retention(self) -> "Stub":
        return self

    def clock_may_be_ahead(self) -> bool:
        return False

    def prune(self, kind: str, ages: Ages, *, after: int) -> Step:
        self.pruned.append((kind, after))
        steps = self.steps.pop(0) if self.steps else Step(0, 0, after, is_end=True)
        if isinstance(steps, Exception):
            raise steps
        return steps


class Enough(BaseException):
    pass


async def rests(store: Any, *, times: int, step: float = 0.0) -> list[float]:
    """Run, without really waiting; how long it would have waited between looks."""
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        if seconds >= 10:
            waited.append(seconds)
        if len(waited) == times:
            raise Enough

    with pytest.raises(Enough):
        await Pruning(store, AGES, clock=Clock(step), sleep=sleep).run()
    return waited


async def test_first_look_after_minute_then_ten(store: Store) -> None:
    assert await rests(store, times=3) == [60.0, 600.0, 600.0]


async def test_unfinished_look_is_followed_soon() -> None:
    stub: Any = Stub(Step(250, 1, 250, is_end=False), Step(250, 1, 250, is_end=False))
    assert (await rests(stub, times=2, step=1.0))[1] == 10.0


async def test_pause_is_as_long_as_its_step() -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    await Pruning(cast(Any, Stub()), AGES, clock=Clock(), sleep=sleep).look()
    assert set(pauses) == {pruning.PAUSE_SECONDS}
    pauses.clear()
    await Pruning(cast(Any, Stub()), AGES, clock=Clock(step=1.0), sleep=sleep).look()
    assert set(pauses) == {1.0}


async def test_each_kind_has_its_turn() -> None:
    stub: Any = Stub(Step(250, 1, 250, is_end=False))
    await Pruning(stub, AGES, sleep=no_sleep).look()
    kinds = ["attempts", "deliveries", "jobs", "events", "versions", "results", "attempts"]
    assert [kind for kind, _ in stub.pruned] == kinds
    assert stub.pruned[-1] == ("attempts", 250)


async def test_nothing_configured_looks_at_nothing() -> None:
    stub: Any = Stub()
    await Pruning(stub, Ages()).run()
    assert stub.pruned == []


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    capturing = CapturingLogger()
    monkeypatch.setattr(pruning, "log", capturing)
    return capturing.calls


@pytest.mark.usefixtures("short_locks")
async def test_held_database_is_reported_and_retried(store: Store, lines: list[Any]) -> None:
    old(store, "1")
    clock = Clock()
    looking = Pruning(store, AGES, clock=clock, sleep=no_sleep)
    with locked(store):
        assert await looking._look_safely() is False
        assert await looking._look_safely() is False
    assert [line.method_name for line in lines] == ["warning"]
    assert left(store) == ["1"]
    assert await looking._look_safely() is False
    assert left(store) == []


@pytest.mark.parametrize("error", [CannotStore("full"), RuntimeError("a bug")])
async def test_no_fault_ends_the_clock(error: Exception, lines: list[Any]) -> None:
    stub: Any = Stub(error, error)
    assert await rests(stub, times=4) == [60.0, 600.0, 600.0, 600.0]
    assert len(stub.pruned) == 2 + 6
    assert len(lines) == 1


async def test_only_actual_pruning_is_logged(store: Store, lines: list[Any]) -> None:
    old(store, "1")
    looking = Pruning(store, AGES, sleep=no_sleep)
    await looking.look()
    await looking.look()
    (line,) = lines
    size = line.kwargs.pop("bytes")
    assert (line.method_name, line.args) == ("info", ("pruned",))
    assert line.kwargs == {"attempts": 1, "deliveries": 1, "jobs": 1, "events": 1}
    assert size > 0


async def test_the_application_prunes(
    store: Store, monkeypatch: pytest.MonkeyPatch, start: Any
) -> None:
    monkeypatch.setattr(pruning, "FIRST_SECONDS", 0.0)
    old(store, "1")
    given = Settings(retention=RetentionSettings(deliveries=1, attempts=1, events=4))
    await start(create_app(given, store=store))
    await until(lambda: not store.events.list_newest())


# --- settings -----------------------------------------------------------------------------------


def of(**days: Any) -> RetentionSettings:
    return RetentionSettings(**days)


def test_default_keeps_results_and_event_keys() -> None:
    assert ages(of(), []) == Ages(deliveries=30 * DAY, attempts=30 * DAY, events=90 * DAY)


@pytest.mark.parametrize(
    ("schemes", "least"),
    [
        ([], "4"),
        ([STANDARD_WEBHOOKS, BEARER], "4"),
        ([TIMESTAMP_BODY], "4"),
        ([BODY], "4"),
        ([Bearer(signature=STANDARD_WEBHOOKS)], "4"),
    ],
)
def test_event_outlives_redelivery_span(schemes: list[AnyScheme], least: str) -> None:
    assert ages(of(deliveries=1, attempts=1, events=float(least)), schemes).events is not None
    with pytest.raises(UsageError) as refused:
        ages(of(deliveries=1, attempts=1, events=float(least) - 0.1), schemes)
    assert str(refused.value) == (
        "The setting retention.events is wrong: 3.9 days are too few, for what was delivered may "
        f"come again for {least}: write {least} or more, or never."
    )


def test_wider_tolerance_lengthens_event_age(store: Store) -> None:
    given = Settings(
        sources={"valyu": SourceSettings(tolerance=10 * 86_400)},
        retention=of(deliveries=1, attempts=1, events=19),
    )
    with pytest.raises(UsageError, match=r"19 days are too few, .* come again for 20: write 20 or"):
        create_app(given, store=store)


@pytest.mark.parametrize(
    ("days", "sentence"),
    [
        (
            {"deliveries": 91},
            "The setting retention.deliveries is wrong: kept for 91 days they would outlive their "
            "events, which go after 90: keep them no longer than these.",
        ),
        (
            {"attempts": "never"},
            "The setting retention.attempts is wrong: kept for ever they would outlive their "
            "events, which go after 90: keep them no longer than these.",
        ),
    ],
)
def test_event_rows_never_outlive_event(days: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=re.escape(sentence)):
        ages(of(**days), [])
    assert ages(of(**days, events="never"), []).events is None


def test_ages_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESULTSINK_RETENTION__DELIVERIES", "0.5")
    monkeypatch.setenv("RESULTSINK_RETENTION__EVENTS", "never")
    monkeypatch.setenv("RESULTSINK_RETENTION__RESULTS", "365")
    assert load().retention == of(deliveries=0.5, events=None, results=365)


@pytest.mark.parametrize("value", ["0", "-1", "x", "nan", "36501", "", "true"])
def test_what_is_no_age_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("RESULTSINK_RETENTION__DELIVERIES", value)
    with pytest.raises(UsageError) as refused:
        load()
    assert str(refused.value) == (
        "The setting retention.deliveries is wrong: is no number of days above 0, up to 36500, "
        "and not the word never."
    )


def test_a_misspelt_age_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESULTSINK_RETENTION__DELIVERYS", "1")
    with pytest.raises(UsageError, match=r"retention\.deliverys is wrong: there is no such"):
        load()


def test_ages_match_the_docs() -> None:
    page = (Path(__file__).parents[3] / "docs/retention.md").read_text("utf-8")
    steps = re.findall(r"^\| `(\w+)` \| `?(\w+)`? \| ([^|]+) \|$", page, re.MULTILINE)
    assert steps == [
        (name, "never" if field.default is None else str(field.default), field.description)
        for name, field in RetentionSettings.model_fields.items()
    ]
