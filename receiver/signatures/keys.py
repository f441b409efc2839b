"""Prepares the keys that a secret's text means to a scheme, or refuses it with advice.

Pure: no I/O, no clock. Neither a key nor an error ever shows the secret.
"""

import hashlib
import hmac
import re
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.hmac import HMAC

from receiver.signatures.schemes import READINGS, WHSEC, AnyScheme, Bearer, Scheme, bearer_token

MAX_SECRET: Final = 1024
MIN_KEY: Final = 16

_KEY_PAIRS: Final = (
    "whpk_", "whsk_", "-----BEGIN", "ssh-", "MCowBQYDK2Vw", "MFkwEwYHKoZIzj", "MIIBIjANBgkqhki",
)  # fmt: skip
_QUOTES: Final = ("'", '"', "`")


class Key:
    """One reading of one secret, as a prepared HMAC state; neither repr nor pickle shows it."""

    __slots__ = ("_state", "reading", "secret_id")

    def __init__(self, key: bytes, *, reading: str, secret_id: int = 0) -> None:
        self.secret_id = secret_id
        self.reading = reading
        self._state = HMAC(key, hashes.SHA256())

    def mac(self, head: bytes, body: bytes) -> bytes:
        """Return the HMAC-SHA256 of head and body; copies a state, which keeps the GIL."""
        state = self._state.copy()
        state.update(head)
        state.update(body)
        return state.finalize()

    def __repr__(self) -> str:
        return f"Key(secret_id={self.secret_id}, reading={self.reading!r})"

    def __reduce__(self) -> str:
        raise TypeError("a signing key is not pickled")


class BearerToken(Key):
    """One reading of one secret as a token that is shown; it signs nothing.

    Of the token only a digest is kept: it is compared in constant time, whatever the lengths.
    """

    __slots__ = ("_digest",)

    def __init__(self, token: str, *, reading: str, secret_id: int = 0) -> None:
        super().__init__(b"", reading=reading, secret_id=secret_id)
        self._digest = hashlib.sha256(token.encode()).digest()

    def is_shown_by(self, digest: bytes) -> bool:
        """Return True if `digest` is the SHA-256 of this token."""
        return hmac.compare_digest(self._digest, digest)


def prepare(scheme: AnyScheme, secret: str, *, secret_id: int = 0) -> tuple[Key, ...]:
    """Return the keys that a secret's text can mean, in the scheme's order; at least one.

    ValueError, with what to do and without the secret, for a text that cannot be one: the wrong
    thing pasted must fail where it is pasted, not as a wall of refused deliveries.
    """
    _refuse_paste(secret)
    if isinstance(scheme, Bearer):
        return _tokens(scheme, secret, secret_id)
    return _signing(scheme, secret, secret_id)


def _tokens(scheme: Bearer, secret: str, secret_id: int) -> tuple[Key, ...]:
    """Return the secret itself, and the token derived from it by `bearer_token`, as keys."""
    if len(secret) < MIN_KEY:
        raise ValueError(f"the token is too short: it has at least {MIN_KEY} characters")
    signing = _signing(scheme.signature, secret, secret_id) if scheme.signature else ()
    return (
        BearerToken(secret, reading="text", secret_id=secret_id),
        BearerToken(bearer_token(secret), reading="derived", secret_id=secret_id),
        *signing,
    )


def _signing(scheme: Scheme, secret: str, secret_id: int) -> tuple[Key, ...]:
    if "decoded" in scheme.readings and secret.startswith(WHSEC):
        _refuse_junk(READINGS["decoded"](secret))
    readings = ((name, READINGS[name](secret)) for name in scheme.readings)
    keys = {value: name for name, value in readings if value is not None and len(value) >= MIN_KEY}
    if not keys:
        raise ValueError(
            f"the signing secret is too short or not {' or '.join(scheme.readings)}: "
            f"a key has at least {MIN_KEY} bytes"
        )
    return tuple(Key(value, reading=name, secret_id=secret_id) for value, name in keys.items())


def doubt(scheme: AnyScheme, secret: str) -> str | None:
    """Return a warning about a secret that does not look like this sender's, or None."""
    signed = scheme.signature if isinstance(scheme, Bearer) else scheme
    if signed is None or signed.readings[0] != "decoded" or secret.startswith(WHSEC):
        return None
    return (
        f"The secret does not begin with {WHSEC}, as such a sender's do: if its deliveries are "
        "refused, register the whole of it"
    )


def _refuse_paste(secret: str) -> None:
    checks = (
        (not secret, "is empty"),
        (len(secret) > MAX_SECRET, f"is longer than {MAX_SECRET} characters"),
        (secret[:1] in _QUOTES or secret[-1:] in _QUOTES, "has quotes around it: remove them"),
        (secret != secret.strip(), "has spaces or a line end around it: remove them"),
        (
            WHSEC in secret[1:],
            f"has {WHSEC} inside of it: paste only what stands behind the =",
        ),
        (re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", secret), "is a URL: paste the secret itself"),
        (
            secret.removeprefix(WHSEC).startswith(_KEY_PAIRS),
            "is a key of a key pair: anyone who knows a public key could sign with it",
        ),
        (not re.fullmatch(r"[!-~]+", secret), "has characters that are not printable ASCII"),
    )
    for wrong, sentence in checks:
        if wrong:
            raise ValueError(f"the signing secret {sentence}")


def _refuse_junk(decoded: bytes | None) -> None:
    if decoded is None:
        raise ValueError("the signing secret is not base64 after whsec_: copy it again")
    if len(decoded) < MIN_KEY:
        raise ValueError(f"the signing secret is too short: under {MIN_KEY} bytes after whsec_")
