"""resultsink token: tokens are printed once, listed without their text, and revoked."""

import json
from collections.abc import Callable

import pytest

from storage import Store
from tests.receiver.cli.conftest import Run

pytestmark = pytest.mark.usefixtures("configured")


def test_token_is_printed_once(run: Run, store: Store) -> None:
    ended = run("token", "create", "--name", "ci", "--scope", "register", "--scope", "read")
    found = store.tokens.find(ended.out.strip())
    assert found is not None
    assert (found.name, found.source) == ("ci", None)
    assert found.scopes == {"read", "register"}
    ending = f"resultsink token revoke {found.id}\n"
    assert (ended.code, ended.err) == (0, f"It is not shown again. To end it: {ending}")
    assert ended.out.strip() not in run("token", "list", "--json").out


def test_json_has_token_and_id(run: Run, store: Store) -> None:
    arguments = ("--name", "ci", "--scope", "read", "--source", "valyu", "--json")
    ended = run("token", "create", *arguments)
    shown = json.loads(ended.out)
    found = store.tokens.find(shown.pop("token"))
    assert found is not None
    known = {"id": found.id, "name": "ci", "scopes": ["read"], "source": "valyu"}
    assert shown == {**known, "expires_at": None}
    assert (ended.code, ended.err) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--scope", "admin"], "There is no scope 'admin': give --scope read or --scope register"),
        ([], "Say what the token may do: give --scope read or --scope register, or both."),
        (["--scope", "read", "--source", "nobody"], "There is no source 'nobody' (configured: "),
        (["--scope", "read", "--name", " "], "Give --name a name of 1 to 100 printable "),
        (["--scope", "read", "--name", "a\nb"], "Give --name a name of 1 to 100 printable "),
        (["--scope", "read", "--name", "x" * 101], "Give --name a name of 1 to 100 printable "),
        (["--scope", "read", "--expires", "soon"], "--expires 'soon' is no duration: write it "),
        (["--scope", "read", "--expires", "0"], "--expires 0 would make a token that opens no"),
    ],
)
def test_wrong_options_are_one_sentence(
    run: Run, store: Store, arguments: list[str], sentence: str
) -> None:
    ended = run("token", "create", "--name", "ci", *arguments)
    assert (ended.code, ended.sentence[: len(sentence)]) == (2, sentence)
    assert store.tokens.list_all() == []


def test_tokens_are_listed_for_people(run: Run, store: Store) -> None:
    assert "There are no tokens yet" in run("token", "list").err
    store.tokens.create("ci", ["register", "read"], source="valyu")
    heads, line = run("token", "list").out.splitlines()
    assert heads.split()[:4] == ["id", "name", "scopes", "source"]
    assert line.split()[1:5] == ["ci", "read", "register", "valyu"]


def test_expiry_is_said_and_listed(run: Run, store: Store) -> None:
    ended = run("token", "create", "--name", "ci", "--scope", "read", "--expires", "90d")
    (listed,) = store.tokens.list_all()
    assert listed["expires_at"] is not None
    assert (listed["expires_at"] - listed["created_at"]).days == 90
    assert f"It expires at {listed['expires_at']:%Y-%m-%d %H:%M:%S} UTC." in ended.err
    assert f"{listed['expires_at']:%Y-%m-%d}" in run("token", "list").out


def test_a_revoked_token_opens_nothing(run: Run, store: Store) -> None:
    made = store.tokens.create("ci", ["read"])
    ended = run("token", "revoke", str(made.id))
    assert (ended.code, ended.err) == (0, f"Token {made.id} opens nothing any more.\n")
    assert store.tokens.find(made.text) is None
    again = run("token", "revoke", str(made.id))
    assert (again.code, again.sentence) == (
        2,
        f"There is no token {made.id} that is still valid: see `token list`.",
    )
    assert run("token", "revoke", str(10**30)).code == 2


@pytest.mark.sqlite
def test_looking_makes_no_database(run: Run, configure: Callable[..., None]) -> None:
    configure(database_url="sqlite:///elsewhere.db")
    for arguments in (["list"], ["revoke", "1"]):
        assert run("token", *arguments).code == 2
    assert run("token", "create", "--name", "ci", "--scope", "read").code == 0
