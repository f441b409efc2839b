"""What counts as this machine: the sandbox listens nowhere else, and calls nowhere else unasked."""

from ipaddress import ip_address

from receiver.sandbox.switches import SandboxError


def is_loopback(host: str | None) -> bool:
    """Whether the host names this machine; names other than localhost are not looked up."""
    if host is None:
        return False
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def require_loopback(host: str) -> None:
    """Raises SandboxError unless the host is one the sandbox may listen on."""
    if not is_loopback(host):
        raise SandboxError(
            f"the sandbox listens on this machine only and not on {host!r}: use 127.0.0.1"
        )
