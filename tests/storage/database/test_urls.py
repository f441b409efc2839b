"""Database URLs: what they name, also with several servers, and what is shown of them."""

import pytest

import storage
from storage import CannotOpen
from storage.database.postgres.engine import postgres_url, shown_name
from storage.database.urls import kind_of
from tests.databases import KEY


@pytest.mark.parametrize(
    ("url", "hosts", "ports"),
    [
        ("postgresql://u@a:5432,b:5433/d", "a,b", "5432,5433"),
        ("postgres://u:s%2Ce@a,b:5433/d?sslmode=require", "a,b", ",5433"),
        ("postgresql://a,b", "a,b", None),
        ("postgresql://u@[::1]:1,[2001:db8::2]/d", "::1,2001:db8::2", "1,"),
        ("postgresql://u@/d?host=a,b&port=1,2", "a,b", "1,2"),
    ],
)
def test_several_servers_are_named_as_libpq_does(url: str, hosts: str, ports: str | None) -> None:
    dialect = postgres_url(url).get_dialect()()
    arguments = dialect.create_connect_args(postgres_url(url))[1]
    assert kind_of(url) == "postgresql"
    assert arguments["host"] == hosts
    assert (arguments.get("port") or "").strip(",") == (ports or "").strip(",")
    assert arguments["target_session_attrs"] == "read-write"


def test_target_session_attrs_is_kept() -> None:
    query = postgres_url("postgresql://u@a,b/d?target_session_attrs=any").query
    assert query["target_session_attrs"] == "any"
    assert "target_session_attrs" not in postgres_url("postgresql://u@a/d").query


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:hunter2@a:5432,b:5433/d?target_session_attrs=any", "u@a:5432,b:5433/d"),
        ("postgresql://u:hunter2@/d?host=a,b&port=5433", "u@a:5433,b:5433/d"),
        ("postgresql://u:hunter2@a:5432/d?sslmode=require", "u@a:5432/d"),
        ("postgresql://u@[::1]:1,b/d", "u@[::1]:1,b/d"),
    ],
)
def test_name_has_the_servers_and_no_password(url: str, shown: str) -> None:
    assert shown_name(postgres_url(url)) == f"postgresql://{shown}"


@pytest.mark.parametrize(
    "url",
    ["postgresql://u@a:x,b/d", "postgresql://u@a,[::1/d", "postgresql://u:p@x@a,b/d", "sqlite"],
)
def test_url_that_is_none_is_refused_without_itself(url: str) -> None:
    with pytest.raises(CannotOpen) as refusal:
        postgres_url(url)
    assert "%40 for " in str(refusal.value)
    assert "p@x" not in str(refusal.value)


@pytest.mark.parametrize("use", [storage.open, storage.upgrade])
def test_servers_that_are_gone_are_named(use: object) -> None:
    url = "postgresql://u:hunter2@127.0.0.1:1,127.0.0.1:2/d"
    with pytest.raises(CannotOpen, match=r"u@127\.0\.0\.1:1,127\.0\.0\.1:2/d") as refusal:
        use(url, [KEY])  # type: ignore[operator]
    assert "hunter2" not in str(refusal.value)
