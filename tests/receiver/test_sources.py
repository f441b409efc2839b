"""Sources: each configured account gets its provider, its scheme and its keys, or a sentence."""

import re
from pathlib import Path
from typing import Any

import pytest

from receiver.errors import UsageError
from receiver.providers.valyu.provider import Valyu
from receiver.settings import Settings, SourceSettings, load
from receiver.signatures.schemes import Scheme
from receiver.sources import configured, named
from tests.receiver.conftest import OTHER_SECRET, SECRET, settings


def test_provider_defaults_to_the_name() -> None:
    given = {"valyu": SourceSettings(), "second": SourceSettings(provider="valyu")}
    sources = configured(Settings(sources=given))
    assert {name: type(source.provider) for name, source in sources.items()} == {
        "valyu": Valyu,
        "second": Valyu,
    }


def test_provider_defaults_fill_unset_settings() -> None:
    source = configured(settings())["valyu"]
    assert isinstance(source.scheme, Scheme)
    assert (source.base_url, source.scheme.tolerance) == ("https://api.valyu.ai/v1", 172800)
    assert source.account_keys == ()


def test_what_is_set_wins() -> None:
    given = {"base_url": "https://stage.test/v1/", "tolerance": 60, "signing": {"prefix": "v1="}}
    source = configured(settings(**given))["valyu"]
    assert source.base_url == "https://stage.test/v1"
    assert isinstance(source.scheme, Scheme)
    assert (source.scheme.tolerance, source.scheme.prefix) == (60, b"v1=")


def test_account_secret_readings_are_all_keys() -> None:
    signing = {"readings": ["text", "hex"]}
    source = configured(settings(signing_secrets=[SECRET, OTHER_SECRET], signing=signing))["valyu"]
    assert [key.reading for key in source.account_keys] == ["text", "hex"] * 2


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (
            {"provider": "other"},
            "sources.valyu.provider is wrong: 'other' is not one of parallel, parallel-v0, valyu.",
        ),
        ({"base_url": "https://sender.test/v\x01"}, "sources.valyu.base_url is wrong: Invalid"),
        ({"api": {"x": 1}}, "sources.valyu.api is wrong: 'x' is not one of the options of valyu"),
        (
            {"provider": "parallel", "api": {"result_seconds": 0}},
            "sources.valyu.api is wrong: result_seconds must be a whole number from 1 to 600.",
        ),
        (
            {"provider": "parallel-v0", "api": {"export": "xml"}},
            "sources.valyu.api is wrong: export must be json or csv.",
        ),
        *(
            (
                {"provider": "parallel-v0", "api": {"run_path": path}},
                "sources.valyu.api is wrong: run_path must be a path with {task_id} and {run_id}",
            )
            for path in ("/v0/runs/{run_id}", "v0/{task_id}/{run_id}", "/{task_id}/{run_id}/{x}")
        ),
        ({"signing": {"algorithm": "md5"}}, "sources.valyu.signing is wrong: unknown"),
        ({"signing": {"template": "{body}"}}, "sources.valyu.signing is wrong: the signed"),
        ({"signing_secrets": ["hunter2"]}, "sources.valyu.signing_secrets is wrong: the signing"),
        ({"signing_secrets": [""]}, "sources.valyu.signing_secrets is wrong: the signing"),
    ],
)
def test_impossible_source_is_one_sentence(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        configured(settings(**wrong))
    assert str(caught.value).startswith(f"The setting {sentence}")
    assert "hunter2" not in str(caught.value)


def test_unknown_source_lists_the_known() -> None:
    sources = configured(settings())
    assert named(sources, "valyu") is sources["valyu"]
    with pytest.raises(UsageError, match=r"no source 'x' \(configured: valyu\)"):
        named(sources, "x")
    with pytest.raises(UsageError, match=r"configured: none.*RESULTSINK_SOURCES__X__API_KEY"):
        named({}, "x")
    with pytest.raises(UsageError, match=r"add \[sources.valyu\] to resultsink.toml, or set RES"):
        named({}, "valyu")


def test_advice_for_unknown_source_works(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(UsageError) as refusal:
        named({}, "mine")
    variables = re.findall(r"RESULTSINK_\w+", str(refusal.value))
    for variable, value in zip(variables, ["valyu", "val_1"], strict=True):
        monkeypatch.setenv(variable, value)
    assert named(configured(load()), "mine").provider.base_url
    table = re.search(r"\[.*?\]", str(refusal.value))
    line = re.search(r"provider = \S+", str(refusal.value))
    assert table is not None
    assert line is not None
    for variable in variables:
        monkeypatch.delenv(variable)
    Path("resultsink.toml").write_text(f"{table[0]}\n{line[0]}\n")
    assert named(configured(load()), "mine").provider.base_url


@pytest.mark.parametrize("name", ["Mine", "my-source"])
def test_unusable_name_is_not_advised(name: str) -> None:
    with pytest.raises(UsageError) as refusal:
        named({}, name)
    assert "RESULTSINK_" not in str(refusal.value)


def test_no_repr_shows_a_key() -> None:
    source = configured(settings(signing_secrets=[SECRET], api_key=OTHER_SECRET))["valyu"]
    assert SECRET not in repr(source)
    assert OTHER_SECRET not in repr(source)
