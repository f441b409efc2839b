"""How a v0 callback shows that it is genuine: its own headers, and perhaps a signature.

Only the headers are documented; contracts/parallel.md, section 1.4. No signature is known, so the
switch `v0_signature` has the plausible ones, each keyed with the callback's secret.
"""

import base64
import binascii
import hashlib
import hmac
import secrets
from dataclasses import dataclass

from receiver.sandbox.parallel_v0.requests import Callback
from receiver.sandbox.signing import clock
from receiver.sandbox.switches import Forgery, Switches


@dataclass(frozen=True, slots=True)
class CallbackSigning:
    """Sends the callback's headers, and signs if it has a secret and the switches want that.

    `event` is the webhook-id of Standard Webhooks: the same in every copy and try.
    """

    callback: Callback
    event: str

    def headers(self, switches: Switches, body: bytes) -> dict[str, str]:
        """See `Signing`."""
        return _headers(self.callback.headers, self._signature(switches, body))

    def forge(
        self, kind: Forgery, switches: Switches, body: bytes
    ) -> tuple[dict[str, str], bytes] | None:
        """See `Signing`; None where nobody could tell such a forgery from the real thing."""
        signature = self._signature(switches, body)
        if kind == "tampered":
            # Still the same JSON: only who checks the raw bytes will notice.
            forged = _headers(self.callback.headers, signature), body + b" "
            return forged if signature else None
        if not signature and not self.callback.headers:
            return None
        if kind == "unsigned":
            return _headers({}, {}), body
        wrong = {name: _other_token(value) for name, value in self.callback.headers.items()}
        key = secrets.token_bytes(32)
        return _headers(wrong, self._signature(switches, body, key=key)), body

    def _signature(
        self, switches: Switches, body: bytes, *, key: bytes | None = None
    ) -> dict[str, str]:
        secret = self.callback.secret
        if secret is None or switches.v0_signature == "none":
            return {}
        if switches.v0_signature == "hmac-sha256":
            return plain(switches, key or secret.encode(), body)
        return standard(self.event, str(int(clock(switches))), key or standard_key(secret), body)


def plain(switches: Switches, key: bytes, body: bytes) -> dict[str, str]:
    """HMAC-SHA256 in hex, of the body alone or behind its time."""
    if switches.v0_signed_text == "body":
        return {switches.v0_signature_header: _plain_mac(switches, key, body)}
    seconds = clock(switches)
    stamp = str(int(seconds * 1000 if switches.timestamp_unit == "ms" else seconds))
    return {
        switches.v0_timestamp_header: stamp,
        switches.v0_signature_header: _plain_mac(switches, key, stamp.encode() + b"." + body),
    }


def _plain_mac(switches: Switches, key: bytes, text: bytes) -> str:
    return switches.v0_signature_prefix + hmac.new(key, text, hashlib.sha256).hexdigest()


def standard(event: str, stamp: str, key: bytes, body: bytes) -> dict[str, str]:
    """The three headers of Standard Webhooks."""
    mac = hmac.new(key, f"{event}.{stamp}.".encode() + body, hashlib.sha256).digest()
    return {
        "webhook-id": event,
        "webhook-timestamp": stamp,
        "webhook-signature": f"v1,{base64.b64encode(mac).decode()}",
    }


def standard_key(secret: str) -> bytes:
    """The key in a secret: behind `whsec_` in base64, and else its text as it is."""
    if secret.startswith("whsec_"):
        try:
            return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        except (binascii.Error, ValueError):
            pass
    return secret.encode()


def _headers(own: dict[str, str], signature: dict[str, str]) -> dict[str, str]:
    """The callback's own headers come last but do not replace what the sender says itself."""
    said = {"Content-Type": "application/json", **signature}
    taken = {name.lower() for name in said}
    return said | {name: value for name, value in own.items() if name.lower() not in taken}


def _other_token(value: str) -> str:
    """Another value of the same form: behind `Bearer` there is still a token."""
    lead, space, _ = value.rpartition(" ")
    return f"{lead}{space}{secrets.token_hex(16)}"
