"""Addresses of this machine: the sandbox listens at no other, and calls no other unasked."""

from ipaddress import ip_address
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator

from receiver.sandbox.switches_common import SandboxError


def is_loopback(host: str | None) -> bool:
    """Return True if the host is this machine; no name but localhost is looked up."""
    if host is None:
        return False
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def require_loopback(host: str) -> None:
    """Raise SandboxError unless the sandbox may listen at the host."""
    if not is_loopback(host):
        raise SandboxError(
            f"the sandbox listens on this machine only and not on {host!r}: use 127.0.0.1"
        )


def _webhook_url(url: str) -> str:
    """Accept https, as the senders do, and http to this machine, where nobody has certificates."""
    parts = urlsplit(url)
    if not parts.hostname or parts.scheme not in ("https", "http"):
        raise ValueError("must be an HTTPS URL")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ValueError("must be an HTTPS URL (the sandbox takes http to 127.0.0.1 only)")
    return url


WebhookUrl = Annotated[str, AfterValidator(_webhook_url)]
"""A URL that a request may name for its webhooks."""
