"""Settings: the environment wins over the file; what is wrong is named, secrets are not shown."""

import re
import stat
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from receiver.errors import UsageError
from receiver.settings import Settings, SourceSettings, load

HIDDEN = "hunter2-hunter2-hunter2"


def write(text: str, name: str = "resultsink.toml") -> Path:
    path = Path(name)
    path.write_text(text)
    return path


def refused() -> str:
    """The sentence with which the settings are refused."""
    with pytest.raises(UsageError) as caught:
        load()
    return str(caught.value)


def test_without_anything_there_are_defaults() -> None:
    settings = load()
    assert (settings.database_url, settings.sources) == ("sqlite:///resultsink.db", {})
    assert settings.max_in_flight_bytes == 64 * 1024 * 1024


def test_the_file_beside_us_is_read() -> None:
    write('public_url = "https://a.test/"\n[sources.valyu]\nlookup_by_body = true')
    settings = load()
    assert settings.public_url == "https://a.test"
    assert settings.sources["valyu"].lookup_by_body


def test_the_environment_wins_setting_by_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    write('max_connections = 5\n[sources.valyu]\ntolerance = 5\nconcurrency = 5\napi_key = "file"')
    monkeypatch.setenv("RESULTSINK_SOURCES__VALYU__TOLERANCE", "6")
    monkeypatch.setenv("RESULTSINK_SOURCES__VALYU__API_KEY", "environment")
    valyu = load().sources["valyu"]
    assert (valyu.tolerance, valyu.concurrency) == (6, 5)
    assert valyu.api_key is not None
    assert valyu.api_key.get_secret_value() == "environment"


@pytest.mark.parametrize("around", [" ", "\t", "\r\n", "\u00a0"])
def test_paste_residue_around_api_key_is_stripped(
    monkeypatch: pytest.MonkeyPatch, around: str
) -> None:
    monkeypatch.setenv("RESULTSINK_SOURCES__VALYU__API_KEY", f"{around}{HIDDEN}{around}")
    api_key = load().sources["valyu"].api_key
    assert api_key is not None
    assert api_key.get_secret_value() == HIDDEN


@pytest.mark.parametrize("inside", [" ", "\n", "\u00a0", "\u2011", "\x7f", "é"])
def test_unsendable_api_key_is_refused_unseen(monkeypatch: pytest.MonkeyPatch, inside: str) -> None:
    monkeypatch.setenv("RESULTSINK_SOURCES__VALYU__API_KEY", f"{HIDDEN}{inside}{HIDDEN}")
    sentence = refused()
    assert sentence.startswith("The setting sources.valyu.api_key is wrong: ")
    assert HIDDEN not in sentence


def test_source_may_come_from_environment_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESULTSINK_SOURCES__VALYU__API_KEY", HIDDEN)
    monkeypatch.setenv("RESULTSINK_SOURCES__VALYU__SIGNING_SECRETS", f'["{HIDDEN}"]')
    valyu = load().sources["valyu"]
    assert [secret.get_secret_value() for secret in valyu.signing_secrets] == [HIDDEN]


def test_another_file_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESULTSINK_CONFIG", str(write("max_connections = 7", "other.toml")))
    assert load().max_connections == 7


def test_missing_named_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESULTSINK_CONFIG", "missing.toml")
    assert refused() == "The settings file missing.toml does not exist."


@pytest.mark.parametrize("name", ["DATABASE_URL", "SOURCES__VALYU__API_KEY"])
def test_value_can_come_from_a_file(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"RESULTSINK_{name}_FILE", str(write("mounted\n", "value")))
    settings = load()
    key = settings.sources["valyu"].api_key if settings.sources else None
    assert (key.get_secret_value() if key else settings.database_url) == "mounted"


def test_empty_mounted_file_is_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(write(" \n", "value"))
    monkeypatch.setenv("RESULTSINK_ENCRYPTION_KEYS_FILE", path)
    assert refused() == f"The file that RESULTSINK_ENCRYPTION_KEYS_FILE names is empty: {path}."


def test_unreadable_mounted_file_names_its_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RESULTSINK_SOURCES__VALYU__API_KEY_FILE", "missing")
    assert refused().startswith("The file that RESULTSINK_SOURCES__VALYU__API_KEY_FILE names")


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("max_connections = 0", "max_connections"),
        ('max_connections = "many"', "max_connections"),
        ("max_in_flight_bytes = 5", "max_in_flight_bytes"),
        ('log_level = "loud"', "log_level"),
        ('log_format = "xml"', "log_format"),
        ("sources = 5", "sources"),
        ("encryption_keys = 7", "encryption_keys"),
        ("[sources.valyu]\ntolerance = 0", "sources.valyu.tolerance"),
        ("[sources.valyu]\ntolerance = nan", "sources.valyu.tolerance"),
        ("[sources.valyu]\nmax_body_bytes = 5", "sources.valyu.max_body_bytes"),
        ("[sources.valyu]\nconcurrency = 0", "sources.valyu.concurrency"),
        ("[sources.valyu]\nrequests_per_second = 0", "sources.valyu.requests_per_second"),
        ('[sources.valyu]\nlookup_by_body = "maybe"', "sources.valyu.lookup_by_body"),
        (f"[sources.valyu]\napi_key = ['{HIDDEN}']", "sources.valyu.api_key"),
        (f"[sources.valyu]\nsigning_secrets = {{a = '{HIDDEN}'}}", "sources.valyu.signing_secrets"),
        (
            f"[sources.valyu]\nsigning_secrets_file = ['{HIDDEN}']",
            "sources.valyu.signing_secrets_file",
        ),
        (f"[sources.valyu]\nsigning = '{HIDDEN}'", "sources.valyu.signing"),
        ('[sources."a b"]', "sources"),
        ('[sources."a/b"]', "sources"),
        ('[sources."ä"]', "sources"),
        ("public_ulr = 'x'", "public_ulr"),
        (f"[sources.valyu]\nsecret = '{HIDDEN}'", "sources.valyu.secret"),
    ],
)
def test_wrong_value_names_the_setting(line: str, name: str) -> None:
    write(line)
    sentence = refused()
    assert re.fullmatch(rf"The setting {re.escape(name)}(\.0)? is wrong: [^\n]+[.?]", sentence)
    assert HIDDEN not in sentence


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SOURCES__VALYU__SIGNING_SECRETS", f'{{"a": "{HIDDEN}"}}'),
        ("SOURCES__VALYU__SIGNING_SECRETS", f'["{HIDDEN}"'),
        ("SOURCES__VALYU__UNKNOWN", HIDDEN),
        ("SOURCES", f'{{"valyu": "{HIDDEN}"'),
    ],
)
def test_wrong_variable_is_named_without_value(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"RESULTSINK_{name}", value)
    sentence = refused()
    assert name.split("__")[0].lower() in sentence.lower()
    assert HIDDEN not in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize("between", [" ", ",", ", ", "\n"])
def test_keys_in_variable_may_be_listed(monkeypatch: pytest.MonkeyPatch, between: str) -> None:
    monkeypatch.setenv("RESULTSINK_ENCRYPTION_KEYS", between.join(["first", "second"]))
    assert [key.get_secret_value() for key in load().encryption_keys] == ["first", "second"]


@pytest.mark.parametrize("text", ["a = ", f"'{HIDDEN}", f"api_key = {HIDDEN}", "\ufeffx"])
def test_invalid_toml_is_refused_without_text(text: str) -> None:
    write(text)
    sentence = refused()
    assert sentence.startswith("The settings cannot be read: ")
    assert HIDDEN not in sentence


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://hooks.example.com", "https://hooks.example.com"),
        ("https://hooks.example.com/below/", "https://hooks.example.com/below"),
        ("https://10.0.0.1:8443", "https://10.0.0.1:8443"),
        ("http://localhost:8000", "http://localhost:8000"),
        ("http://127.8.0.1", "http://127.8.0.1"),
        ("http://[::1]:8000", "http://[::1]:8000"),
    ],
)
def test_public_url_needs_https_except_loopback(url: str, kept: str) -> None:
    assert Settings(public_url=url).public_url == kept


@pytest.mark.parametrize(
    "url",
    [
        *("http://hooks.example.com", "http://10.0.0.1", "http://localhost.example.com"),
        *("ftp://localhost", "hooks.example.com", "https://", "", "https://a.test?x=1"),
        *(
            "https://a.test#x",
            "http://[::1",
            "http://0.0.0.0",
            "https://a.test:port",
            "https://a:70000",
        ),
    ],
)
def test_other_addresses_are_refused(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("RESULTSINK_PUBLIC_URL", url)
    assert refused().startswith("The setting public_url is wrong: ")


def test_no_repr_shows_a_secret() -> None:
    source: dict[str, Any] = {"api_key": HIDDEN, "signing_secrets": [HIDDEN]}
    settings = Settings(
        encryption_keys=[SecretStr(HIDDEN)], sources={"valyu": SourceSettings(**source)}
    )
    shown = f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"
    assert HIDDEN not in shown


def test_reading_settings_writes_nothing() -> None:
    load()
    assert [path for path in Path().iterdir() if stat.S_ISREG(path.stat().st_mode)] == []


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("PUBLC_URL", "RESULTSINK_PUBLIC_URL"),
        ("DATABASE_URL_FIEL", "RESULTSINK_DATABASE_URL"),
        ("SOURCE__VALYU__API_KEY", "RESULTSINK_SOURCES__VALYU__API_KEY"),
        ("SOURCE_VALYU_API_KEY", "RESULTSINK_SOURCES__VALYU__API_KEY"),
        ("SOURCES_MY_TEAM_SIGNING_SECRETS", "RESULTSINK_SOURCES__MY_TEAM__SIGNING_SECRETS"),
        ("CONFIGS", "RESULTSINK_CONFIG"),
        ("QQQ", "one of those in docs/settings.md"),
    ],
)
def test_misspelt_variable_suggests_the_setting(
    monkeypatch: pytest.MonkeyPatch, name: str, meant: str
) -> None:
    monkeypatch.setenv(f"RESULTSINK_{name}", HIDDEN)
    sentence = f"There is no setting RESULTSINK_{name}: write {meant}, or take it away."
    assert refused() == sentence


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TEST_POSTGRES", "x"),
        ("TEST_KEY_FILE", "missing"),
        ("SERVICE_HOST", "10.0.0.1"),
        ("SERVICE_PORT_HTTP", "8000"),
        ("PORT", "tcp://10.0.0.1:8000"),
        ("PORT_8000_TCP_ADDR", "10.0.0.1"),
    ],
)
def test_test_and_cluster_variables_are_ignored(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"RESULTSINK_{name}", value)
    load()


def test_a_port_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESULTSINK_PORT", "8000")
    assert refused().startswith("There is no setting RESULTSINK_PORT: ")


@pytest.mark.parametrize("between", [" ", ",", ", ", "\n"])
def test_signing_secrets_may_be_listed(monkeypatch: pytest.MonkeyPatch, between: str) -> None:
    monkeypatch.setenv("RESULTSINK_SOURCES__VALYU__SIGNING_SECRETS", between.join(["new", "old"]))
    secrets = load().sources["valyu"].signing_secrets
    assert [secret.get_secret_value() for secret in secrets] == ["new", "old"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "[sources.valyu]\napikey = 1",
            "sources.valyu.apikey is wrong: .* mean api_key[?]",
        ),
        ("[sources.valyu]\nAPI_KEYS = 1", "API_KEYS is wrong: .*; did you mean api_key[?]"),
        ("[source.valyu]\napi_key = 1", "source is wrong: .*; did you mean sources[?]"),
        ("databaseurl = 1", "databaseurl is wrong: .*; did you mean database_url[?]"),
        ("[retention]\ndelivery = 1", "delivery is wrong: .*; did you mean deliveries[?]"),
        (
            "api_key = 1",
            "it belongs to a source: write it below .sources.NAME.",
        ),
        ("[sources.a]\npublic_url = 1", "it belongs to no source: write it above the first"),
        ("qqq = 1", "qqq is wrong: there is no such setting; see docs/settings.md"),
        (
            "sources.valyu = 1",
            "sources.valyu is wrong: it must be a table, such as",
        ),
    ],
)
def test_misspelt_setting_suggests_another(text: str, sentence: str) -> None:
    write(text)
    assert re.search(rf"^The setting .*{sentence}", refused())


def test_misspelt_variable_of_a_source_suggests_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESULTSINK_SOURCES__VALYU__APIKEY", HIDDEN)
    assert refused().endswith("there is no such setting; did you mean api_key?")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (
            b"ab\xff\xfe",
            "resultsink.toml, line 1: it is not UTF-8 (at byte 2): save it as UTF-8.",
        ),
        ("x = 'ü'".encode("latin-1"), "resultsink.toml, line 1: it is not UTF-8 (at byte 5)"),
        (b"x = ", "resultsink.toml is no TOML: Invalid value (at end of document)."),
        (None, "resultsink.toml cannot be read: Is a directory."),
    ],
)
def test_unreadable_file_is_one_sentence(content: bytes | None, reason: str) -> None:
    if content is None:
        Path("resultsink.toml").mkdir()
    else:
        Path("resultsink.toml").write_bytes(content)
    assert refused().startswith(f"The settings cannot be read: {reason}")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_file_may_have_a_byte_order_mark(encoding: str) -> None:
    Path("resultsink.toml").write_bytes("max_connections = 7".encode(encoding))
    assert load().max_connections == 7


def test_signing_secrets_file_is_named_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RESULTSINK_SOURCES__VALYU__SIGNING_SECRETS_FILE", "secrets.txt")
    assert load().sources["valyu"].signing_secrets_file == Path("secrets.txt")
    monkeypatch.delenv("RESULTSINK_SOURCES__VALYU__SIGNING_SECRETS_FILE")
    write('[sources.valyu]\nsigning_secrets_file = "others.txt"')
    assert load().sources["valyu"].signing_secrets_file == Path("others.txt")
    assert load().sources["valyu"].signing_secrets == []
