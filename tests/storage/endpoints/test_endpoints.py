"""Endpoints: unguessable, bound once, and with secrets that only the key opens."""

import base64
from datetime import timedelta

import pytest
from sqlalchemy.exc import IntegrityError

import storage
from storage import MAX_SECRETS, NotFound, SecretRefused, Store, WrongKey
from storage.database import insert
from storage.encryption import Vault
from storage.endpoints import endpoints
from storage.models import Batch, Job, Secret
from storage.store.check_jobs import FIRST_CHECK
from tests import behind
from tests.databases import url_of
from tests.storage.build import NOON, contents, rows

SECRET = "whsec_c2VjcmV0IG9mIHRoZSBlbmRwb2ludA=="  # noqa: S105  made up


@pytest.fixture
def endpoint(store: Store) -> str:
    """An endpoint for a batch that is not known yet."""
    return store.endpoints.add("valyu", "batch")


def test_no_id_begins_like_an_option() -> None:
    assert not any(endpoints.new_id().startswith("-") for _ in range(2000))


def test_id_is_128_url_safe_random_bits(store: Store) -> None:
    ids = {store.endpoints.add("valyu", "account") for _ in range(20)}
    assert len(ids) == 20
    for text in ids:
        decoded = base64.b64decode(text + "==", altchars=b"-_", validate=True)
        assert len(decoded) == 16


def test_new_endpoint_awaits_its_secret(store: Store, endpoint: str) -> None:
    view = store.endpoints.find(endpoint)
    assert view is not None
    assert (view.source, view.kind, view.resource) == ("valyu", "batch", None)
    assert (view.state, view.secrets) == ("pending", ())


def test_secret_opens_endpoint_and_reads_back(store: Store, endpoint: str) -> None:
    store.endpoints.set_secret(endpoint, SECRET)
    view = store.endpoints.find(endpoint)
    assert view is not None
    assert (view.state, view.secrets[0].text) == ("open", SECRET)


def test_several_secrets_listed_newest_first(store: Store, endpoint: str) -> None:
    for text in ("old", "new"):
        store.endpoints.set_secret(endpoint, text)
    view = store.endpoints.find(endpoint)
    assert view is not None
    assert [secret.text for secret in view.secrets] == ["new", "old"]


def test_secrets_on_disk_are_encrypted(store: Store, endpoint: str) -> None:
    store.endpoints.set_secret(endpoint, SECRET)
    (row,) = rows(store.database, Secret)
    everything = behind.everything(url_of(store))
    assert row.ciphertext in everything
    assert SECRET.encode() not in everything
    assert store.vault.decrypt(row.ciphertext) == SECRET.encode()


def test_equal_secrets_differ_at_rest(store: Store, endpoint: str) -> None:
    store.endpoints.set_secret(endpoint, SECRET)
    store.endpoints.add("valyu", "batch", secret=SECRET)
    one, other = rows(store.database, Secret)
    assert one.ciphertext != other.ciphertext


def test_the_same_secret_again_changes_nothing(store: Store, endpoint: str) -> None:
    store.endpoints.set_secret(endpoint, SECRET, resource="batch-1")
    before = rows(store.database, Secret)
    store.endpoints.set_secret(endpoint, SECRET, resource="batch-1")
    assert rows(store.database, Secret) == before


@pytest.mark.parametrize("keep", [timedelta(0), timedelta(days=1)])
def test_only_rotation_restores_replaced_secret(
    store: Store, endpoint: str, keep: timedelta
) -> None:
    store.endpoints.set_secret(endpoint, SECRET)
    store.endpoints.rotate_secret(endpoint, "another", old_until=storage.now() + keep)
    before = contents(store.database)
    with pytest.raises(SecretRefused, match="was replaced: use `endpoint rotate` to bring it back"):
        store.endpoints.set_secret(endpoint, SECRET)
    assert contents(store.database) == before
    store.endpoints.rotate_secret(endpoint, SECRET, old_until=storage.now())
    store.endpoints.set_secret(endpoint, SECRET)
    assert [row.valid_until is None for row in rows(store.database, Secret)] == [False, False, True]


def test_secret_beyond_the_limit_is_refused(store: Store, endpoint: str) -> None:
    for number in range(MAX_SECRETS):
        store.endpoints.set_secret(endpoint, f"secret {number}")
    with pytest.raises(SecretRefused, match="5 secrets are valid already: use `endpoint rotate`"):
        store.endpoints.set_secret(endpoint, SECRET)
    store.endpoints.set_secret(endpoint, "secret 0")  # it is there already
    store.endpoints.rotate_secret(endpoint, SECRET, old_until=storage.now())
    store.endpoints.set_secret(endpoint, "one more")
    assert len(rows(store.database, Secret)) == MAX_SECRETS + 2


def test_endpoint_created_with_secret_is_open(store: Store) -> None:
    view = store.endpoints.find(store.endpoints.add("valyu", "run", secret=SECRET))
    assert view is not None
    assert (view.state, [secret.text for secret in view.secrets]) == ("open", [SECRET])


def test_repr_hides_the_secret(store: Store, endpoint: str) -> None:
    store.endpoints.set_secret(endpoint, SECRET)
    view = store.endpoints.find(endpoint)
    assert view is not None
    assert endpoint in repr(view)
    assert SECRET not in repr(view)
    assert SECRET not in repr(view.secrets)


def test_another_key_opens_no_secret(store: Store, endpoint: str) -> None:
    store.endpoints.set_secret(endpoint, SECRET)
    other = Vault([storage.new_key()])
    with store.database.read() as connection, pytest.raises(WrongKey):
        endpoints.find(connection, other, endpoint)


def test_the_reading_that_verified_is_remembered(store: Store, endpoint: str) -> None:
    store.endpoints.set_secret(endpoint, SECRET)
    (row,) = rows(store.database, Secret)
    store.endpoints.remember_reading(row.id, "base64")
    view = store.endpoints.find(endpoint)
    assert view is not None
    assert view.secrets[0].reading == "base64"


# --- the revision -------------------------------------------------------------------------------


def test_every_change_raises_the_revision(store: Store) -> None:
    seen = [store.endpoints.revision()]
    endpoint = store.endpoints.add("valyu", "batch")
    seen.append(store.endpoints.revision())
    store.endpoints.set_secret(endpoint, SECRET)
    seen.append(store.endpoints.revision())
    store.endpoints.bind(endpoint, "batch-1")
    seen.append(store.endpoints.revision())
    store.endpoints.close(endpoint)
    seen.append(store.endpoints.revision())
    assert seen == sorted(set(seen))
    assert seen[0] == 0


def test_a_refused_change_leaves_the_revision(store: Store, endpoint: str) -> None:
    store.endpoints.close(endpoint)
    before = store.endpoints.revision()
    with pytest.raises(NotFound):
        store.endpoints.set_secret(endpoint, SECRET)
    assert store.endpoints.revision() == before


# --- binding ------------------------------------------------------------------------------------


def test_a_bound_endpoint_refuses_another_resource(store: Store, endpoint: str) -> None:
    store.endpoints.bind(endpoint, "batch-1")
    before = contents(store.database)
    with pytest.raises(NotFound, match="bound to another resource"):
        store.endpoints.bind(endpoint, "batch-2")
    assert contents(store.database) == before


def test_secret_for_another_resource_is_refused(store: Store, endpoint: str) -> None:
    store.endpoints.bind(endpoint, "batch-1")
    before = contents(store.database)
    with pytest.raises(NotFound):
        store.endpoints.set_secret(endpoint, SECRET, resource="batch-2")
    assert contents(store.database) == before


def test_binding_same_resource_again_is_allowed(store: Store, endpoint: str) -> None:
    store.endpoints.bind(endpoint, "batch-1")
    store.endpoints.set_secret(endpoint, SECRET, resource="batch-1")
    view = store.endpoints.find_by_resource("valyu", "batch-1")
    assert view is not None
    assert (view.id, view.resource) == (endpoint, "batch-1")


def test_task_of_resource_is_kept_and_bound(store: Store) -> None:
    endpoint = store.endpoints.add("valyu", "run", task_id="task-1")
    store.endpoints.set_secret(endpoint, SECRET, resource="run-1", task_id="task-1")
    with pytest.raises(NotFound):
        store.endpoints.set_secret(endpoint, SECRET, resource="run-1", task_id="task-2")
    view = store.endpoints.find(endpoint)
    assert view is not None
    assert (view.resource, view.task_id) == ("run-1", "task-1")


@pytest.mark.parametrize("kind", ["task", "run", "batch"])
def test_binding_registers_batches_only(store: Store, kind: str) -> None:
    store.endpoints.bind(store.endpoints.add("valyu", kind), "it")
    assert [row.batch_id for row in rows(store.database, Batch)] == ["it"] * (kind == "batch")


def test_only_open_endpoints_found_by_resource(store: Store) -> None:
    endpoint = store.endpoints.add("valyu", "run", resource="run-1")
    assert store.endpoints.find_by_resource("valyu", "run-1") is None
    store.endpoints.set_secret(endpoint, SECRET)
    assert store.endpoints.find_by_resource("parallel", "run-1") is None
    assert store.endpoints.find_by_resource("valyu", "run-1") is not None
    store.endpoints.close(endpoint)
    assert store.endpoints.find_by_resource("valyu", "run-1") is None


# --- closing ------------------------------------------------------------------------------------


def test_closed_endpoint_refuses_every_change(store: Store, endpoint: str) -> None:
    store.endpoints.close(endpoint)
    before = contents(store.database)
    with pytest.raises(NotFound, match=endpoint):
        store.endpoints.set_secret(endpoint, SECRET)
    with pytest.raises(NotFound, match=endpoint):
        store.endpoints.bind(endpoint, "batch-1")
    with pytest.raises(NotFound, match=endpoint):
        store.endpoints.close(endpoint)
    assert contents(store.database) == before


@pytest.mark.parametrize("resource", [None, "run-1"])
def test_closing_ends_checks_without_a_subject(store: Store, resource: str | None) -> None:
    store.endpoints.close(store.endpoints.add("valyu", "run", resource=resource))
    (check,) = rows(store.database, Job)
    assert check.status == ("done" if resource is None else "pending")


def test_a_closed_endpoint_is_still_shown(store: Store, endpoint: str) -> None:
    store.endpoints.close(endpoint)
    assert [row["state"] for row in store.endpoints.list_all()] == ["closed"]


def test_unknown_endpoint_is_not_found(store: Store) -> None:
    assert store.endpoints.find("nowhere") is None
    with pytest.raises(NotFound):
        store.endpoints.set_secret("nowhere", SECRET)


def test_endpoints_listed_newest_first_by_source(store: Store) -> None:
    first, other, last = (store.endpoints.add(s, "run") for s in ("valyu", "parallel", "valyu"))
    assert [row["id"] for row in store.endpoints.list_all()] == [last, other, first]
    assert [row["id"] for row in store.endpoints.list_all(source="parallel")] == [other]


# --- its check ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["batch", "task", "run"])
def test_new_endpoint_gets_a_check(store: Store, kind: str) -> None:
    endpoint = store.endpoints.add("valyu", kind, resource="it")
    (job,) = rows(store.database, Job)
    assert (job.kind, job.status, job.endpoint_id) == ("check", "pending", endpoint)
    assert (job.subject_kind, job.subject) == (kind, "it")
    assert job.next_attempt_at - job.created_at == FIRST_CHECK


def test_account_endpoint_gets_no_check(store: Store) -> None:
    store.endpoints.add("valyu", "account")
    assert rows(store.database, Job) == []


def test_database_refuses_unknown_kind(store: Store) -> None:
    with pytest.raises(IntegrityError):
        store.endpoints.add("valyu", "letter")


def test_database_refuses_secret_without_endpoint(store: Store) -> None:
    orphan = {"endpoint_id": "nowhere", "ciphertext": b"x", "valid_from": NOON, "created_at": NOON}
    with pytest.raises(IntegrityError):
        store.database.write(lambda c: c.execute(insert(Secret).values(**orphan)))
