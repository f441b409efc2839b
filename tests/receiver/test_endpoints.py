"""The rules of endpoints, which the command line and the HTTP API share."""

from datetime import timedelta

import pytest
from pydantic import SecretStr

from receiver import endpoints
from receiver.errors import UsageError
from receiver.settings import GivenSettings, SourceSettings
from receiver.sources import Source, configured
from storage import EndpointView, NotFound, SecretRefused, Store
from tests.receiver.conftest import BATCH, OTHER_BATCH, OTHER_SECRET, SECRET

HOUR = timedelta(hours=1)


def source(name: str = "valyu", **settings: object) -> Source:
    given = {name: SourceSettings.model_validate({"provider": name, **settings})}
    return configured(GivenSettings(sources=given))[name]


def registered(store: Store, kind: str = "batch", **more: str | None) -> EndpointView:
    return endpoints.register(store, source(), kind, **more)


def secrets(store: Store, view: EndpointView) -> list[str]:
    return [secret.text for secret in endpoints.find_open(store, view.id).secrets]


def test_a_registered_endpoint_has_all_that_was_given(store: Store) -> None:
    view = registered(store, "task", resource="t1", task_id="stored", secret=SECRET)
    assert (view.kind, view.resource, view.task_id, view.state) == ("task", "t1", "stored", "open")
    assert secrets(store, view) == [SECRET]


@pytest.mark.parametrize(("kind", "with_account"), [("batch", False), ("account", True)])
def test_announced_kinds_are_allowed(kind: str, with_account: bool) -> None:
    endpoints.check_kind(source(), kind, with_account=with_account)


@pytest.mark.parametrize(("kind", "with_account"), [("run", True), ("account", False)])
def test_other_kinds_are_refused(kind: str, with_account: bool) -> None:
    with pytest.raises(UsageError, match=f"Source valyu announces no {kind}: use kind "):
        endpoints.check_kind(source(), kind, with_account=with_account)


@pytest.mark.parametrize(
    ("name", "kind", "more", "sentence"),
    [
        ("valyu", "account", {"resource": BATCH}, "for no single resource"),
        ("parallel-v0", "account", {"task_id": "t"}, "for no single resource"),
        ("valyu", "task", {"task_id": "t"}, "Source valyu has no stored tasks: leave the task out"),
        ("parallel", "run", {"resource": "r", "task_id": "t"}, "has no stored tasks"),
    ],
)
def test_impossible_bindings_are_refused(
    name: str, kind: str, more: dict[str, str], sentence: str
) -> None:
    given = {"resource": None, "task_id": None, **more}
    with pytest.raises(UsageError, match=sentence):
        endpoints.check_binding(source(name), kind, **given)


def test_possible_bindings_are_allowed() -> None:
    endpoints.check_binding(source(), "account", resource=None, task_id=None)
    endpoints.check_binding(source(), "task", resource="t1", task_id=None)
    endpoints.check_binding(source("parallel-v0"), "run", resource=None, task_id="t1")


def test_an_address_is_a_path_and_a_url() -> None:
    path = "/webhooks/valyu/abc"
    assert endpoints.address("valyu", "abc", None) == endpoints.Address(path, None)
    url = f"https://hooks.example.com{path}"
    assert endpoints.address("valyu", "abc", "https://hooks.example.com").url == url


def test_the_secrets_of_the_account_open_an_endpoint(store: Store) -> None:
    view = registered(store)
    assert endpoints.state_of(view, source()) == "pending"
    assert endpoints.state_of(view, None) == "pending"
    assert endpoints.state_of(view, source(signing_secrets=[SecretStr(SECRET)])) == "open"


@pytest.mark.parametrize(
    ("scheme", "secret", "warning"),
    [("valyu", SECRET, None), ("standard-webhooks", SECRET, "The secret does not begin with")],
)
def test_an_odd_secret_gets_a_warning(scheme: str, secret: str, warning: str | None) -> None:
    signing = {} if scheme == "valyu" else {"scheme": scheme}
    said = endpoints.check_secret(source(signing=signing), secret)
    assert said is None if warning is None else (said or "").startswith(warning)


def test_a_secret_that_cannot_verify_is_refused() -> None:
    with pytest.raises(UsageError, match="The secret was not registered: the signing"):
        endpoints.check_secret(source(), "short")


def test_a_secret_comes_with_the_resource(store: Store) -> None:
    view = registered(store)
    endpoints.set_secret(store, view, SECRET, resource=BATCH, task_id="stored")
    bound = endpoints.find_open(store, view.id)
    assert (bound.resource, bound.task_id, bound.state) == (BATCH, "stored", "open")


def test_a_task_needs_a_resource(store: Store) -> None:
    view = registered(store)
    with pytest.raises(UsageError, match="The resource is missing"):
        endpoints.set_secret(store, view, SECRET, task_id="stored")
    with pytest.raises(UsageError, match="The resource is missing"):
        endpoints.bind(store, view, task_id="stored")
    assert secrets(store, view) == []


def test_a_task_joins_the_resource_that_is_bound(store: Store) -> None:
    view = registered(store, resource=BATCH)
    endpoints.bind(store, view, task_id="stored")
    assert endpoints.find_open(store, view.id).task_id == "stored"


def test_another_resource_is_refused_and_changes_nothing(store: Store) -> None:
    view = registered(store, resource=BATCH)
    for resource in (BATCH, OTHER_BATCH):
        try:
            endpoints.bind(store, view, resource=resource)
        except endpoints.BoundElsewhere:
            assert resource == OTHER_BATCH
    with pytest.raises(endpoints.BoundElsewhere, match="is bound to another resource"):
        endpoints.set_secret(store, view, SECRET, resource=OTHER_BATCH)
    assert endpoints.find_open(store, view.id) == view


def test_another_task_is_refused_and_named_so(store: Store) -> None:
    view = endpoints.register(store, source("parallel-v0"), "run", resource="r1", task_id="t9")
    endpoints.bind(store, view, task_id="t9")
    for resource in (None, "r1"):
        with pytest.raises(endpoints.BoundElsewhere, match="below another stored task"):
            endpoints.bind(store, view, resource=resource, task_id="t10")
    with pytest.raises(endpoints.BoundElsewhere, match="below another stored task"):
        endpoints.set_secret(store, view, SECRET, task_id="t10")
    with pytest.raises(endpoints.BoundElsewhere, match="bound to another resource"):
        endpoints.bind(store, view, resource="r2", task_id="t10")
    assert endpoints.find_open(store, view.id) == view


def test_a_rotated_secret_is_the_newest(store: Store) -> None:
    view = registered(store, secret=SECRET)
    endpoints.rotate(store, view, OTHER_SECRET, old_until=store.now() + HOUR)
    assert secrets(store, view) == [OTHER_SECRET, SECRET]
    newest = endpoints.find_open(store, view.id)
    with pytest.raises(UsageError, match="it is the newest one already"):
        endpoints.rotate(store, newest, OTHER_SECRET, old_until=store.now() + HOUR)
    with pytest.raises(SecretRefused):
        endpoints.set_secret(store, newest, SECRET)


def test_a_closed_endpoint_takes_nothing_more(store: Store) -> None:
    view = registered(store)
    assert endpoints.close(store, view.id)
    assert not endpoints.close(store, view.id)
    for attempt in (
        lambda: endpoints.find_open(store, view.id),
        lambda: endpoints.set_secret(store, view, SECRET),
        lambda: endpoints.bind(store, view, resource=BATCH),
        lambda: endpoints.rotate(store, view, SECRET, old_until=store.now()),
    ):
        with pytest.raises(NotFound, match="There is no open endpoint"):
            attempt()
