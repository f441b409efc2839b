"""Keys that rotate: everything is encrypted under the first one, and the others can go."""

from contextlib import closing

import pytest
from sqlalchemy import update
from sqlmodel import SQLModel, col

import storage
from storage import Store, WrongKey, new_key
from storage.encryption import Vault
from storage.endpoints import reencryption
from storage.models import Secret
from storage.store import keys as module
from tests import databases
from tests.storage.build import rows


@pytest.fixture
def old(store: Store) -> str:
    """The key of the database."""
    return databases.key(store).strip()


def filled(store: Store, count: int) -> list[str]:
    return [store.endpoints.add("valyu", "batch", secret=f"secret-{n:018}") for n in range(count)]


def secret_of(url: str, key: str, endpoint: str) -> str:
    with closing(storage.open(url, [key])) as opened:
        view = opened.endpoints.find(endpoint)
        assert view is not None
        return view.secrets[0].text


def test_new_key_alone_opens_everything(
    store: Store, made_url: str, old: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STEP_SECRETS", 2)
    endpoints, new = filled(store, 5), new_key()
    steps: list[int] = []
    with closing(storage.open(made_url, [new, old])) as both:
        assert both.keys.rekey(steps.append).changed == 5
        assert both.keys.rekey() == storage.Rekeyed(0, 5, ())
    assert steps == [2, 4, 5] * 2  # a second look finds nothing left
    assert secret_of(made_url, new, endpoints[-1]) == f"secret-{4:018}"
    with pytest.raises(WrongKey):
        storage.open(made_url, [old])


def test_interrupted_rekeying_is_resumed(
    store: Store, made_url: str, old: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STEP_SECRETS", 1)
    filled(store, 3)

    def interrupt(seen: int) -> None:
        if seen == 2:
            raise KeyboardInterrupt

    new = new_key()
    with closing(storage.open(made_url, [new, old])) as both:
        with pytest.raises(KeyboardInterrupt):
            both.keys.rekey(interrupt)
        assert both.keys.rekey() == storage.Rekeyed(1, 3, ())


def test_secrets_of_serving_process_are_followed(store: Store, made_url: str, old: str) -> None:
    """It was started with the old key first, and adds a secret while others are rekeyed."""
    filled(store, 1)
    new = new_key()
    late: list[str] = []

    def meanwhile(_seen: int) -> None:
        if not late:
            late.extend(filled(store, 1))

    with closing(storage.open(made_url, [new, old])) as both:
        assert both.keys.rekey(meanwhile) == storage.Rekeyed(2, 2, ())
    assert secret_of(made_url, new, late[0]) == f"secret-{0:018}"


def test_secret_replaced_meanwhile_is_kept(store: Store, old: str) -> None:
    filled(store, 1)
    (row,) = rows(store.database, Secret)
    newer = Vault([old]).encrypt(b"newer")
    store.database.write(lambda c: c.execute(update(Secret).values(ciphertext=newer)))
    stale = [(row.id, row.ciphertext, b"stale")]
    store.database.write(lambda c: reencryption.renew(c, stale))
    assert rows(store.database, Secret)[0].ciphertext == newer


def test_unreadable_secret_is_named_and_kept(store: Store, made_url: str, old: str) -> None:
    readable, lost = filled(store, 2)
    foreign = Vault([new_key()]).encrypt(b"secret")
    change = update(Secret).where(col(Secret.endpoint_id) == lost).values(ciphertext=foreign)
    store.database.write(lambda c: c.execute(change))
    new = new_key()
    with closing(storage.open(made_url, [new, old])) as both:
        done = both.keys.rekey()
    assert (done.changed, [each["endpoint"] for each in done.unreadable]) == (1, [lost])
    assert secret_of(made_url, new, readable) == f"secret-{0:018}"
    assert foreign in [row.ciphertext for row in rows(store.database, Secret)]
    store.keys.forget(done.unreadable)
    view = store.endpoints.find(lost)
    assert view is not None
    assert (view.state, view.secrets) == ("pending", ())


def test_no_other_table_holds_anything_encrypted() -> None:
    tables = SQLModel.metadata.sorted_tables
    assert [table.name for table in tables if "ciphertext" in table.columns] == ["secrets"]
