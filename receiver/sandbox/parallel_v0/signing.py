"""Proofs of a v0 callback: its own headers, and perhaps a signature.

Only the headers are documented; contracts/parallel.md, section 1.4. No signature is known. The
switch `v0_signature` offers plausible ones, each keyed with the callback's secret.
"""

import base64
import binascii
import hashlib
import hmac
import secrets
from dataclasses import dataclass

from receiver.sandbox.parallel_v0.requests import V0Callback
from receiver.sandbox.senders import SignedRequest
from receiver.sandbox.switches import Forgery, Switches


@dataclass(frozen=True, slots=True)
class CallbackSigning:
    """Sends the headers of a callback, and signs it if it has a secret and the switches say so.

    `event` is the webhook-id of Standard Webhooks, which all copies and tries share.
    """

    callback: V0Callback
    event: str

    def headers(self, switches: Switches, body: bytes, *, at: float) -> dict[str, str]:
        return _headers(self.callback.headers, self._signature(switches, body, at=at))

    def forge(
        self, kind: Forgery, switches: Switches, body: bytes, *, at: float
    ) -> SignedRequest | None:
        signature = self._signature(switches, body, at=at)
        if kind == "tampered":
            # The JSON is still the same: only a check of the raw bytes finds this.
            signed = _headers(self.callback.headers, signature)
            return SignedRequest(signed, body + b" ") if signature else None
        if not signature and not self.callback.headers:
            return None
        if kind == "unsigned":
            return SignedRequest(_headers({}, {}), body)
        wrong = {name: _other_token(value) for name, value in self.callback.headers.items()}
        signature = self._signature(switches, body, at=at, key=secrets.token_bytes(32))
        return SignedRequest(_headers(wrong, signature), body)

    def _signature(
        self, switches: Switches, body: bytes, *, at: float, key: bytes | None = None
    ) -> dict[str, str]:
        secret = self.callback.secret
        if secret is None or switches.v0_signature == "none":
            return {}
        if switches.v0_signature == "hmac-sha256":
            return plain(switches, key or secret.encode(), body, at=at)
        return standard(self.event, str(int(at)), key or standard_key(secret), body)


def plain(switches: Switches, key: bytes, body: bytes, *, at: float) -> dict[str, str]:
    """Return headers with an HMAC-SHA256 in hex, of the body alone or of its time and body."""
    if switches.v0_signed_text == "body":
        return {switches.v0_signature_header: _plain_mac(switches, key, body)}
    stamp = str(int(at * 1000 if switches.timestamp_unit == "ms" else at))
    return {
        switches.v0_timestamp_header: stamp,
        switches.v0_signature_header: _plain_mac(switches, key, stamp.encode() + b"." + body),
    }


def _plain_mac(switches: Switches, key: bytes, text: bytes) -> str:
    return switches.v0_signature_prefix + hmac.new(key, text, hashlib.sha256).hexdigest()


def standard(event: str, stamp: str, key: bytes, body: bytes) -> dict[str, str]:
    """Return the three headers of Standard Webhooks."""
    mac = hmac.new(key, f"{event}.{stamp}.".encode() + body, hashlib.sha256).digest()
    return {
        "webhook-id": event,
        "webhook-timestamp": stamp,
        "webhook-signature": f"v1,{base64.b64encode(mac).decode()}",
    }


def standard_key(secret: str) -> bytes:
    """Return the key of a secret: the decoded base64 after `whsec_`, or else its text."""
    if secret.startswith("whsec_"):
        try:
            return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        except (binascii.Error, ValueError):
            pass
    return secret.encode()


def _headers(own: dict[str, str], signature: dict[str, str]) -> dict[str, str]:
    """Add the callback's own headers, except those that the sender sets itself."""
    fixed = {"Content-Type": "application/json", **signature}
    taken = {name.lower() for name in fixed}
    return fixed | {name: value for name, value in own.items() if name.lower() not in taken}


def _other_token(value: str) -> str:
    """Return another value of the same form: `Bearer` is still followed by a token."""
    lead, space, _ = value.rpartition(" ")
    return f"{lead}{space}{secrets.token_hex(16)}"
