"""Valyu's signature: HMAC-SHA256 over "<timestamp>.<raw body>", keyed with the secret's text.

In hex behind `sha256=`; contracts/valyu.md, section 2.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass

from receiver.sandbox.signing import clock
from receiver.sandbox.switches import Forgery, Switches


def sign(secret: str, timestamp: str, body: bytes) -> str:
    """The signature header's value."""
    mac = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256)
    return f"sha256={mac.hexdigest()}"


def timestamp(switches: Switches) -> str:
    """The timestamp header's value, now, by the sender's clock."""
    seconds = clock(switches)
    return str(int(seconds * 1000 if switches.timestamp_unit == "ms" else seconds))


def headers(switches: Switches, secret: str, body: bytes) -> dict[str, str]:
    """The headers of a genuine delivery made now."""
    stamp = timestamp(switches)
    return {
        "Content-Type": "application/json",
        switches.timestamp_header: stamp,
        switches.signature_header: sign(secret, stamp, body),
    }


@dataclass(frozen=True, slots=True)
class ValyuSigning:
    """Signs with the secret of a batch, task or contents job."""

    secret: str

    def headers(self, switches: Switches, body: bytes) -> dict[str, str]:
        """See `Signing`."""
        return headers(switches, self.secret, body)

    def forge(self, kind: Forgery, switches: Switches, body: bytes) -> tuple[dict[str, str], bytes]:
        """See `Signing`."""
        if kind == "wrong_key":
            return headers(switches, secrets.token_hex(32), body), body
        signed = headers(switches, self.secret, body)
        if kind == "tampered":
            # Still the same JSON: only who checks the raw bytes will notice.
            return signed, body + b" "
        del signed[switches.signature_header]
        return signed, body
