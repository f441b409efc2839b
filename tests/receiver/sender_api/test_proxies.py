"""Proxy variables: only what a sender needs is looked at; what cannot be used is named."""

import os
import re

import pytest

from receiver.errors import UsageError
from receiver.sender_api.proxies import check_environment, proxies_for, trusted_certificates

FAR = "https://api.sender.test/v1"
GOOD = "http://proxy.test:3128"
CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")


@pytest.fixture(autouse=True)
def _unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name in CERTIFICATES:
            monkeypatch.delenv(name)


def proxy_of(url: str) -> str | None:
    """The proxy of an address, as one text."""
    return next((str(proxy.url) for proxy in proxies_for([url]).values()), None)


@pytest.mark.parametrize(
    ("variables", "url", "proxy"),
    [
        ({}, FAR, None),
        ({"HTTPS_PROXY": GOOD}, FAR, GOOD),
        ({"https_proxy": "proxy.test:3128"}, FAR, GOOD),
        ({"ALL_PROXY": GOOD}, FAR, GOOD),
        ({"ALL_PROXY": "socks5h://127.0.0.1:1", "HTTPS_PROXY": GOOD}, FAR, GOOD),
        ({"HTTP_PROXY": "nonsense://x"}, FAR, None),
        ({"HTTP_PROXY": GOOD}, FAR.replace("https", "http"), GOOD),
        ({"ALL_PROXY": "socks4://x"}, "http://127.0.0.1:9/v1", None),
        ({"ALL_PROXY": "socks4://x"}, "http://[::1]:9/v1", None),
        ({"HTTPS_PROXY": ""}, FAR, None),
    ],
)
def test_only_the_needed_proxy_is_used(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], url: str, proxy: str | None
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert proxy_of(url) == proxy


@pytest.mark.parametrize(
    ("entries", "url", "is_direct"),
    [
        ("fd07:b51a:cc66:f0::/64", FAR, False),
        ("localhost,[::1]", FAR, False),
        ("fd07:b51a:cc66:f0::/64", "https://[fd07:b51a:cc66:f0::9]/v1", True),
        ("[fd07::9]", "https://[fd07::9]/v1", True),
        ("10.0.0.0/8, other.test", "https://10.1.2.3:8443/v1", True),
        ("10.0.0.5/8", "https://10.1.2.3/v1", True),
        ("10.0.0.0/8", "https://11.1.2.3/v1", False),
        ("sender.test", FAR, True),
        (".SENDER.test", FAR, True),
        ("api.sender.test:443", FAR, True),
        ("api.sender.test:8443", FAR, False),
        ("*", FAR, True),
        ("er.test", FAR, False),
        ("[,]/99,::/999,\u2603", FAR, False),
    ],
)
@pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy"])
def test_no_proxy_holds_names_addresses_and_ranges(
    monkeypatch: pytest.MonkeyPatch, name: str, entries: str, url: str, is_direct: bool
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", GOOD)
    monkeypatch.setenv(name, entries)
    assert (proxy_of(url) is None) == is_direct


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "all_proxy"])
@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("socks5h://user:hunter2@127.0.0.1:1", "SOCKS proxy, for which a package is missing"),
        ("socks4://127.0.0.1:1", "no proxy that can be used"),
        ("http://", "no proxy that can be used"),
        ("http://user:hunter2@proxy:port", "no proxy that can be used"),
        ("http://[::1", "no proxy that can be used"),
        ("http://a:99999", "no proxy that can be used"),
    ],
)
def test_unusable_proxy_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, sentence: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=rf"^{name} names .*{re.escape(sentence)}") as raised:
        check_environment([FAR])
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("name", CERTIFICATES)
@pytest.mark.parametrize("path", ["none/there", __file__, "."])
def test_unusable_certificates_are_named(
    monkeypatch: pytest.MonkeyPatch, name: str, path: str
) -> None:
    if (name, path) in (("SSL_CERT_DIR", "."), ("SSLKEYLOGFILE", __file__)):
        return  # a folder is right there, and so is a file here
    monkeypatch.setenv(name, path)
    with pytest.raises(UsageError, match=rf"^{name} names {re.escape(path)}, which cannot be used"):
        trusted_certificates()


def test_certificates_of_a_folder_are_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_DIR", f"none{os.pathsep}.")
    assert trusted_certificates().get_ca_certs() == []
