"""Tokens: shown once, kept as a digest, found by their text until they are revoked."""

import re
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage import NotFound, Store, TokenExpired
from storage.models import Token
from tests import behind
from tests.databases import url_of
from tests.storage.build import contents, rows


def test_token_found_by_text_with_scopes(store: Store) -> None:
    made = store.tokens.create("ci", ["register", "read", "read"], source="valyu")
    assert re.fullmatch(r"rs_[A-Za-z0-9_-]{43}", made.text)
    found = store.tokens.find(made.text)
    assert found is not None
    assert (found.id, found.name, found.source) == (made.id, "ci", "valyu")
    assert found.scopes == {"read", "register"}


def test_only_a_digest_is_kept(store: Store) -> None:
    made = store.tokens.create("ci", ["read"])
    assert made.text not in f"{made}{store.tokens.find(made.text)}{store.tokens.list_all()}"
    assert made.text[3:].encode() not in behind.everything(url_of(store))
    assert [len(row.digest) for row in rows(store.database, Token)] == [32]


def test_equal_requests_make_different_tokens(store: Store) -> None:
    one, other = (store.tokens.create("ci", ["read"]) for _ in range(2))
    assert one.text != other.text
    assert store.tokens.find(one.text) != store.tokens.find(other.text)


def test_revoked_token_opens_nothing_but_lists(store: Store) -> None:
    kept, ended = (store.tokens.create(name, ["read"]) for name in ("kept", "ended"))
    store.tokens.revoke(ended.id)
    assert store.tokens.find(ended.text) is None
    assert store.tokens.find(kept.text) is not None
    listed = [(row["name"], row["revoked_at"] is None) for row in store.tokens.list_all()]
    assert listed == [("ended", False), ("kept", True)]


def test_token_ends_by_the_clock_of_the_database(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = store.tokens.create("ci", ["read"], lifetime=timedelta(days=90))
    assert made.expires_at is not None
    for moment, is_valid in ((timedelta(microseconds=-1), True), (timedelta(), False)):
        now = made.expires_at + moment
        monkeypatch.setattr(store.database, "now", lambda now=now: now)
        if is_valid:
            assert store.tokens.find(made.text) is not None
        else:
            with pytest.raises(TokenExpired, match=f"Token {made.id} has expired"):
                store.tokens.find(made.text)


def test_expired_token_can_be_revoked(store: Store) -> None:
    made = store.tokens.create("ci", ["read"], lifetime=timedelta())
    store.tokens.revoke(made.id)
    assert store.tokens.find(made.text) is None


def test_unknown_token_cannot_be_revoked(store: Store) -> None:
    made = store.tokens.create("ci", ["read"])
    store.tokens.revoke(made.id)
    before = contents(store.database)
    for token_id in (made.id, made.id + 1):
        with pytest.raises(NotFound, match=f"no token {token_id} "):
            store.tokens.revoke(token_id)
    assert contents(store.database) == before


@given(text=st.text(max_size=60))
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_other_text_finds_a_token(store: Store, text: str) -> None:
    assert store.tokens.find(text) is None


def test_unstorable_name_is_cleaned(store: Store) -> None:
    store.tokens.create("a\0b\ud800", ["read"])
    assert [row["name"] for row in store.tokens.list_all()] == ["a�b�"]
