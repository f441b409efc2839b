"""Secrets follow one another: side by side until the old ones end, and never shown."""

from datetime import timedelta

import pytest

from storage import NotFound, Store
from storage.database import now
from storage.models import Secret
from tests.storage.build import contents, rows

OLD, NEW, NEWEST = "old-old-old-old-old", "new-new-new-new-new", "newest-newest-newest"
HOUR = timedelta(hours=1)


@pytest.fixture
def endpoint(store: Store) -> str:
    """An endpoint with one secret."""
    endpoint_id = store.endpoints.add("valyu", "batch")
    store.endpoints.set_secret(endpoint_id, OLD)
    return endpoint_id


def test_rotation_ends_only_the_old_secret(store: Store, endpoint: str) -> None:
    until = now() + HOUR
    store.endpoints.rotate_secret(endpoint, NEW, old_until=until)
    view = store.endpoints.find(endpoint)
    assert view is not None
    assert [(secret.text, secret.valid_until) for secret in view.secrets] == [
        (NEW, None),
        (OLD, until),
    ]


def test_end_already_set_is_never_postponed(store: Store, endpoint: str) -> None:
    soon, later = now() + HOUR, now() + 2 * HOUR
    store.endpoints.rotate_secret(endpoint, NEW, old_until=soon)
    store.endpoints.rotate_secret(endpoint, NEWEST, old_until=later)
    assert [row.valid_until for row in rows(store.database, Secret)] == [soon, later, None]


def test_end_already_set_can_move_forward(store: Store, endpoint: str) -> None:
    moment = now()
    store.endpoints.rotate_secret(endpoint, NEW, old_until=moment + HOUR)
    store.endpoints.rotate_secret(endpoint, NEWEST, old_until=moment)
    assert [row.valid_until for row in rows(store.database, Secret)] == [moment, moment, None]


def test_rotation_opens_a_pending_endpoint(store: Store) -> None:
    endpoint = store.endpoints.add("valyu", "batch")
    store.endpoints.rotate_secret(endpoint, NEW, old_until=now())
    view = store.endpoints.find(endpoint)
    assert view is not None
    assert view.state == "open"


def test_closed_endpoint_keeps_its_secrets(store: Store, endpoint: str) -> None:
    store.endpoints.close(endpoint)
    before = contents(store.database)
    with pytest.raises(NotFound):
        store.endpoints.rotate_secret(endpoint, NEW, old_until=now())
    assert contents(store.database) == before


def test_every_process_learns_of_it(store: Store, endpoint: str) -> None:
    before = store.endpoints.revision()
    store.endpoints.rotate_secret(endpoint, NEW, old_until=now())
    assert store.endpoints.revision() > before


def test_listing_hides_the_secret_texts(store: Store, endpoint: str) -> None:
    until = now() + HOUR
    store.endpoints.rotate_secret(endpoint, NEW, old_until=until)
    store.endpoints.remember_reading(1, "text")
    empty = store.endpoints.add("parallel", "run")
    found = {row["id"]: row["secrets"] for row in store.endpoints.list_all()}
    assert found[empty] == []
    assert [(each["id"], each["valid_until"], each["reading"]) for each in found[endpoint]] == [
        (2, None, None),
        (1, until, "text"),
    ]
    assert store.endpoints.list_all(source="valyu")[0]["secrets"] == found[endpoint]
    assert NEW not in str(found)
    assert "ciphertext" not in str(found)


def test_secrets_of_source_listed_newest_first(store: Store, endpoint: str) -> None:
    other = store.endpoints.add("valyu", "task")
    store.endpoints.set_secret(other, NEW)
    store.endpoints.set_secret(store.endpoints.add("parallel", "run"), NEWEST)
    found = [
        (endpoint_id, secret.text) for endpoint_id, secret in store.endpoints.secrets_of("valyu")
    ]
    assert found == [(other, NEW), (endpoint, OLD)]
