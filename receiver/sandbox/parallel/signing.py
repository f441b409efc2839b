"""Parallel's signature: Standard Webhooks with the account's secrets; contracts/parallel.md, 3.3.

HMAC-SHA256 over "<webhook-id>.<webhook-timestamp>.<raw body>", each entry `v1,<base64>`.
"""

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass

from receiver.sandbox.signing import clock
from receiver.sandbox.switches import Forgery, Switches

SIGNATURE = "webhook-signature"


def entry(key: bytes, event: str, timestamp: str, body: bytes) -> str:
    """One entry of the signature header."""
    signed = f"{event}.{timestamp}.".encode() + body
    mac = hmac.new(key, signed, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(mac).decode()}"


def keys(secret: str, rule: str) -> list[bytes]:
    """The keys that a secret is made into, by the rule of the switch `parallel_key`."""
    decoded = base64.b64decode(secret.removeprefix("whsec_"))
    return {"new": [decoded], "legacy": [secret.encode()], "both": [decoded, secret.encode()]}[rule]


@dataclass(frozen=True, slots=True)
class ParallelSigning:
    """Signs one event with the secrets that the switches name; copies and tries share its id."""

    event: str

    def headers(self, switches: Switches, body: bytes) -> dict[str, str]:
        """See `Signing`."""
        return self._headers(switches, switches.parallel_secrets, body)

    def _headers(self, switches: Switches, account: tuple[str, ...], body: bytes) -> dict[str, str]:
        stamp = str(int(clock(switches)))
        made = [key for secret in account for key in keys(secret, switches.parallel_key)]
        return {
            "Content-Type": "application/json",
            "webhook-id": self.event,
            "webhook-timestamp": stamp,
            SIGNATURE: " ".join(entry(key, self.event, stamp, body) for key in made),
        }

    def forge(self, kind: Forgery, switches: Switches, body: bytes) -> tuple[dict[str, str], bytes]:
        """See `Signing`."""
        if kind == "wrong_key":
            other = f"whsec_{base64.b64encode(secrets.token_bytes(24)).decode()}"
            return self._headers(switches, (other,), body), body
        signed = self.headers(switches, body)
        if kind == "tampered":
            # Still the same JSON: only who checks the raw bytes will notice.
            return signed, body + b" "
        del signed[SIGNATURE]
        return signed, body
