"""Parallel's signature: Standard Webhooks with the account's secrets; contracts/parallel.md, 3.3.

Each entry is `v1,<base64>`: HMAC-SHA256 over "<webhook-id>.<webhook-timestamp>.<raw body>".
"""

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass

from receiver.sandbox.senders import SignedRequest
from receiver.sandbox.switches import Forgery, Switches

SIGNATURE = "webhook-signature"


def entry(key: bytes, event: str, timestamp: str, body: bytes) -> str:
    """Return one entry of the signature header."""
    signed = f"{event}.{timestamp}.".encode() + body
    mac = hmac.new(key, signed, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(mac).decode()}"


def keys(secret: str, rule: str) -> list[bytes]:
    """Return the keys of a secret by a rule of the switch `parallel_key`."""
    decoded = base64.b64decode(secret.removeprefix("whsec_"))
    return {"new": [decoded], "legacy": [secret.encode()], "both": [decoded, secret.encode()]}[rule]


@dataclass(frozen=True, slots=True)
class ParallelSigning:
    """Signs one event with the secrets of the switches; its copies and tries share the event id."""

    event: str

    def headers(self, switches: Switches, body: bytes, *, at: float) -> dict[str, str]:
        return self._headers(switches, switches.parallel_secrets, body, at=at)

    def _headers(
        self, switches: Switches, account: tuple[str, ...], body: bytes, *, at: float
    ) -> dict[str, str]:
        stamp = str(int(at))
        made = [key for secret in account for key in keys(secret, switches.parallel_key)]
        return {
            "Content-Type": "application/json",
            "webhook-id": self.event,
            "webhook-timestamp": stamp,
            SIGNATURE: " ".join(entry(key, self.event, stamp, body) for key in made),
        }

    def forge(self, kind: Forgery, switches: Switches, body: bytes, *, at: float) -> SignedRequest:
        if kind == "wrong_key":
            other = f"whsec_{base64.b64encode(secrets.token_bytes(24)).decode()}"
            return SignedRequest(self._headers(switches, (other,), body, at=at), body)
        signed = self.headers(switches, body, at=at)
        if kind == "tampered":
            # The JSON is still the same: only a check of the raw bytes finds this.
            return SignedRequest(signed, body + b" ")
        del signed[SIGNATURE]
        return SignedRequest(signed, body)
