"""The user's proxy for calls to senders, and the certificates that are trusted.

httpx reads the same variables, but refuses all of them for one that it cannot read, also where the
sender needs no proxy. So only what a sender needs is looked at here.
"""

import os
import ssl
from collections.abc import Iterable
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from receiver.errors import UsageError
from receiver.settings import is_loopback

PROXIES = "http://, https://, socks5:// or socks5h://"


def check_environment(urls: Iterable[str]) -> None:
    """Raise UsageError for a variable that keeps calls to these addresses from being made."""
    proxies_for(urls)
    trusted_certificates()


def trusted_certificates() -> ssl.SSLContext:
    """Return certifi's certificates, or those of SSL_CERT_FILE or SSL_CERT_DIR.

    Raises UsageError that names the variable which cannot be used.
    """
    variable = "SSL_CERT_FILE" if os.environ.get("SSL_CERT_FILE") else "SSL_CERT_DIR"
    named = os.environ.get(variable, "")
    folders = named.split(os.pathsep) if variable == "SSL_CERT_DIR" and named else []
    if folders and not any(os.path.isdir(folder) for folder in folders):
        raise UsageError(_unusable(variable, named, "there is no such folder"))
    try:
        return httpx.create_ssl_context()
    except OSError as error:  # SSLError is one
        if error.filename is not None:  # only the file that the keys are logged to is named
            variable = "SSLKEYLOGFILE"
        reason = "it holds no certificates" if isinstance(error, ssl.SSLError) else error.strerror
        raise UsageError(_unusable(variable, os.environ.get(variable), f"{reason}")) from None


def _unusable(variable: str, value: str | None, reason: str) -> str:
    return f"{variable} names {value}, which cannot be used ({reason}): mend it, or take it away."


def proxies_for(urls: Iterable[str]) -> dict[str, httpx.Proxy]:
    """Return the proxies of those addresses that need one, by httpx's pattern for the address.

    Raises UsageError that names the variable which cannot be used.
    """
    proxies = {}
    for url in urls:
        parts = urlsplit(url)
        host = parts.hostname or ""
        address = f"[{host}]" if ":" in host else host
        port = parts.port or (443 if parts.scheme == "https" else 80)
        if not _is_direct(host, f"{address}:{port}"):
            proxy = _proxy(parts.scheme, host)
            if proxy is not None:
                proxies[f"all://{address}"] = proxy
    return proxies


def _is_direct(host: str, origin: str) -> bool:
    """Return True for this machine, and for what NO_PROXY names: a name, an address, a range."""
    if is_loopback(host):
        return True
    entries = [entry.strip() for entry in getproxies().get("no", "").split(",")]
    return bool(proxy_bypass(origin)) or any(_is_within(host, entry) for entry in entries)


def _is_within(host: str, entry: str) -> bool:
    try:
        return ip_address(host) in ip_network(entry.strip("[]"), strict=False)
    except ValueError:  # one of them is a name
        return False


def _proxy(scheme: str, host: str) -> httpx.Proxy | None:
    found = getproxies()
    kind = next((kind for kind in (scheme, "all") if found.get(kind)), None)
    if kind is None:
        return None
    url, variable = found[kind], _variable(f"{kind}_proxy")
    url = url if "://" in url else f"http://{url}"
    try:
        proxy = httpx.Proxy(url)
        if not proxy.url.host or (proxy.url.port or 1) > 65535:
            raise ValueError("no host, or no port")
        httpx.AsyncHTTPTransport(proxy=proxy, verify=False)
    except ImportError:
        raise UsageError(
            f"{variable} names a SOCKS proxy, for which a package is missing: install "
            f"'resultsink[socks]', name a proxy of HTTP, or add {host} to NO_PROXY."
        ) from None
    except (ValueError, httpx.InvalidURL):  # their texts may hold the proxy's password
        raise UsageError(
            f"{variable} names no proxy that can be used: write an address that begins with "
            f"{PROXIES}, or add {host} to NO_PROXY."
        ) from None
    return proxy


def _variable(name: str) -> str:
    """Return the variable as the user wrote it; on some systems there are settings without one."""
    names = (name, name.upper())
    return next((each for each in names if os.environ.get(each)), "The proxy of the system")
