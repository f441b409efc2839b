"""Which event a delivery is: nobody announces, or shadows, what another endpoint is for."""

from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from receiver.intake.identity import EventIdentity, identify
from receiver.providers.model import Announcement
from storage import EndpointView

KINDS = frozenset({"batch", "task", "run"})
NEW = datetime(2026, 11, 1, tzinfo=UTC)

# Names that an attacker would choose: they look like keys, like parts of keys, and like each other.
names = st.sampled_from(["a", "a:completed", "a%3Acompleted", "ep-1:a"])
statuses = st.none() | st.sampled_from(["completed", "completed:1", "1"])
announcements = st.none() | st.builds(
    Announcement,
    kind=st.sampled_from(["batch", "run", "task", "findall"]),
    resource=names,
    batch_id=st.none() | names,
    status=statuses,
    stamp=st.none() | st.sampled_from(["1"]),
    is_end=st.booleans(),
)
message_ids = st.none() | st.sampled_from(["msg_1", "msg_2"])
bodies = st.sampled_from([b"1", b"2"])


def view(number: int, kind: str, resource: str | None) -> EndpointView:
    return EndpointView(f"ep-{number}", "valyu", kind, resource, "open", NEW)


def views(number: int) -> st.SearchStrategy[EndpointView]:
    kinds = st.sampled_from(["batch", "run", "task", "contents", "account"])
    return st.builds(view, st.just(number), kinds, st.none() | names)


def identity(
    view: EndpointView | None,
    announced: Announcement | None,
    message_id: str | None = None,
    body: bytes = b"",
) -> EventIdentity:
    return identify(view, announced, message_id, sha256(body).digest(), kinds=KINDS)


def speaks_for(view: EndpointView | None, found: EventIdentity) -> bool:
    """True for an endpoint of the account, or one bound to the very thing that is fetched."""
    if view is None or view.kind == "account":
        return True
    return (view.kind, view.resource) == (found.subject_kind, found.subject)


@settings(max_examples=1_000, deadline=None)
@given(
    first=views(1),
    other=st.none() | views(2),
    said=st.tuples(announcements, message_ids, bodies),
    other_said=st.tuples(announcements, message_ids, bodies),
)
def test_no_endpoint_makes_another_s_key(
    first: EndpointView,
    other: EndpointView | None,
    said: tuple[Any, Any, Any],
    other_said: tuple[Any, Any, Any],
) -> None:
    one, two = identity(first, *said), identity(other, *other_said)
    assume(not (first.kind == "account" and (other is None or other.kind == "account")))
    if one.key == two.key:
        assert speaks_for(first, one)
        assert speaks_for(other, two)
        assert (one.subject_kind, one.subject) == (two.subject_kind, two.subject)


@given(at=views(1), said=announcements, message_id=message_ids, body=bodies)
def test_fetch_is_bound_to_its_endpoint(
    at: EndpointView, said: Announcement | None, message_id: str | None, body: bytes
) -> None:
    found = identity(at, said, message_id, body)
    if found.disposition != "fetch" or speaks_for(at, found):
        return
    of_its_batch = at.kind == "batch" and found.subject_kind in ("run", "task")
    awaits_its_resource = at.resource is None and at.kind == found.subject_kind
    assert of_its_batch or awaits_its_resource
    assert found.key.startswith(f"{at.id}:")


@given(at=st.none() | views(1), said=announcements, body=bodies)
def test_message_id_makes_the_event(
    at: EndpointView | None, said: Announcement | None, body: bytes
) -> None:
    first, again, other = (identity(at, said, name, body) for name in ("m1", "m1", "m2"))
    assert first.key == again.key != other.key


def test_names_cannot_cross_key_parts() -> None:
    pairs = [("a:completed", "1"), ("a", "completed:1"), ("a%3Acompleted", "1"), ("a", "completed")]
    keys = {Announcement("run", name, status=status).key for name, status in pairs}
    assert len(keys) == len(pairs)


def test_unreadable_delivery_awaits_the_binding() -> None:
    found = identity(view(1, "batch", None), None)
    assert (found.disposition, found.subject_kind, found.subject) == (
        "fetch",
        "batch",
        None,
    )
    assert identity(view(1, "batch", "b"), None).subject == "b"
    assert identity(None, None).disposition == "unusable"


def test_known_run_facts_spare_calls() -> None:
    run = Announcement("run", "r1", "g1", "failed", is_end=True)
    assert identity(None, run).hints == {"batch": "g1", "status": "failed"}
    assert identity(None, Announcement("batch", "b1", "b1", "completed")).hints is None


def test_unsigned_body_gives_no_batch_hint() -> None:
    run = Announcement("run", "r1", "g1", "failed")
    for at in (None, view(1, "account", None), view(1, "run", "r1"), view(1, "batch", "g1")):
        found = identify(at, run, None, b"", kinds=KINDS, is_signed=False)
        assert (found.subject, found.hints) == ("r1", {"status": "failed"})
        assert identity(at, run).hints == {"batch": "g1", "status": "failed"}
    assert identity(None, Announcement("run", "r1")).hints == {"status": None}


def test_unfetched_kinds_are_ignored() -> None:
    found = identity(None, Announcement("findall", "f1", status=None, is_end=False))
    assert found.disposition == "ignored"


def test_other_batch_s_run_is_unusable() -> None:
    at = view(1, "batch", "b1")
    mine, other = (Announcement("run", "r1", batch, "completed") for batch in ("b1", "b2"))
    assert identity(at, mine).subject == "r1"
    assert identity(at, other).disposition == "unusable"
    assert identity(at, other).reason == "it names run r1, not b1"


@pytest.mark.parametrize("kind", ["contents", "task", "run"])
@pytest.mark.parametrize("announced", ["task", "run"])
@pytest.mark.parametrize("resource", [None, "mine"])
def test_only_a_batch_has_runs(kind: str, announced: str, resource: str | None) -> None:
    found = identity(view(1, kind, resource), Announcement(announced, "r1", resource))
    speaks = announced == kind and resource is None
    assert found.disposition == ("fetch" if speaks else "unusable")


def test_batch_endpoint_speaks_for_no_other_kind() -> None:
    for resource in (None, "b1"):
        found = identity(view(1, "batch", resource), Announcement("findall", "f1", status="done"))
        assert (found.disposition, found.subject) == ("unusable", None)
