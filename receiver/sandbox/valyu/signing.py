"""Valyu's signature: HMAC-SHA256 over "<timestamp>.<raw body>", keyed with the secret's text.

The header has it in hex after `sha256=`; contracts/valyu.md, section 2.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass

from receiver.sandbox.senders import SignedRequest
from receiver.sandbox.switches import Forgery, Switches


def sign(secret: str, timestamp: str, body: bytes) -> str:
    """Return the value of the signature header."""
    mac = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256)
    return f"sha256={mac.hexdigest()}"


def timestamp(switches: Switches, at: float) -> str:
    """Return the value of the timestamp header for seconds since 1970."""
    return str(int(at * 1000 if switches.timestamp_unit == "ms" else at))


def headers(switches: Switches, secret: str, body: bytes, *, at: float) -> dict[str, str]:
    """Return the headers of a genuine delivery at this time, in seconds since 1970."""
    stamp = timestamp(switches, at)
    return {
        "Content-Type": "application/json",
        switches.timestamp_header: stamp,
        switches.signature_header: sign(secret, stamp, body),
    }


@dataclass(frozen=True, slots=True)
class ValyuSigning:
    """Signs with the secret of a batch, task or contents job."""

    secret: str

    def headers(self, switches: Switches, body: bytes, *, at: float) -> dict[str, str]:
        return headers(switches, self.secret, body, at=at)

    def forge(self, kind: Forgery, switches: Switches, body: bytes, *, at: float) -> SignedRequest:
        if kind == "wrong_key":
            return SignedRequest(headers(switches, secrets.token_hex(32), body, at=at), body)
        signed = headers(switches, self.secret, body, at=at)
        if kind == "tampered":
            # The JSON is still the same: only a check of the raw bytes finds this.
            return SignedRequest(signed, body + b" ")
        del signed[switches.signature_header]
        return SignedRequest(signed, body)
