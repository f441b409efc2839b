"""Advises, in one sentence, what to set or do so that such a request is let in."""

import json
import math
from typing import Any

from receiver.errors import SignatureError
from receiver.signatures.diagnosis.findings import (
    Diagnosis,
    KnownSecret,
    PossibleMatch,
    RefusedRequest,
)
from receiver.signatures.diagnosis.variants import AS_IT_CAME
from receiver.signatures.overrides import override
from receiver.signatures.schemes import SCHEMES, AnyScheme, Bearer, Scheme


def advise(
    request: RefusedRequest,
    scheme: AnyScheme,
    secrets: list[KnownSecret],
    found: PossibleMatch | None,
    outcome: SignatureError | None,
    seen: Diagnosis,
) -> str:
    """Return the advice; `outcome` is the refusal by today's settings, None if it is genuine."""
    if isinstance(scheme, Bearer) and (scheme.signature is None or _is_token(scheme, request)):
        return _token(scheme, request, seen)
    if not request.is_whole:
        return "Its body was cut at 64 kB, so that nothing can be checked again: the sender must."
    if found is not None:
        return _matching(request, scheme, found, outcome, seen)
    if not any(secret.counts_here for secret in secrets):
        where = f"resultsink endpoint secret {request.endpoint_id}"
        if request.endpoint_id is None:
            where = f"sources.{request.source}.signing_secrets"
        return f"No secret is registered here: register the sender's with {where}."
    missing = [expected for expected in seen.headers if expected.came is False]
    if missing:
        return _missing(missing[0].header, [*missing[0].look_alikes])
    if outcome is not None and outcome.reason == "malformed":
        return f"The sender must write it in another way: {outcome}."
    return (
        "No registered secret fits, however it is read: compare the secret that is registered "
        "here with the one that the sender showed for this URL; if it is right, this is forged."
    )


def _is_token(scheme: Bearer, request: RefusedRequest) -> bool:
    return "token" in request.detail or scheme.header.decode() in request.detail


def _token(scheme: Bearer, request: RefusedRequest, seen: Diagnosis) -> str:
    header = scheme.header.decode()
    lost = "this request cannot be checked again, because tokens are never kept."
    for other in seen.headers[0].look_alikes:
        if _can_be_set(scheme, {"header": other}):
            return (
                f"{header} did not come, but {' and '.join(seen.headers[0].look_alikes)} did: if "
                f"the token stands there, add to signing of source {request.source}: "
                f"{{ header = {json.dumps(other)} }}, and start serve again; {lost}"
            )
    if "different values" in request.detail:
        return (
            f"{header} came more than once, with different values: have the sender, or the proxy "
            f"before us, send it once; {lost}"
        )
    how = {
        "missing": f"The sender showed no token: have it send the header {header}: Bearer TOKEN",
        "malformed": f"What came in {header} is no token: have the sender send Bearer TOKEN there",
    }.get(request.reason, "The token is none that is registered: give the sender one that is")
    return f"{how}; {lost}"


def _missing(header: str, look_alikes: list[str]) -> str:
    if look_alikes:
        return (
            f"{header} did not come, but {' and '.join(look_alikes)} did, and no registered secret "
            "fits: register the right secret first, then this can say what to set."
        )
    return (
        f"{header} did not come: it is not signed, or a proxy took the header away; have the "
        "sender sign, or leave it, for anybody could have sent this."
    )


def _matching(
    request: RefusedRequest,
    scheme: AnyScheme,
    found: PossibleMatch,
    outcome: SignatureError | None,
    seen: Diagnosis,
) -> str:
    if not found.secret.counts_here:
        return (
            f"It is signed with {found.secret.place}: give the sender that endpoint's URL, or "
            "register the secret here too."
        )
    if found.body != AS_IT_CAME:
        return (
            f"Something on the way wrote the body anew (it was signed {found.body}): have the "
            "proxy pass bodies on unchanged."
        )
    stamp = found.layout.timestamp_header
    if stamp is not None and not any(n == stamp and v.isdigit() for n, v in request.headers):
        return (
            "The right secret signed it, but in a form that cannot be set: the timestamp stands "
            f"inside of {_text(stamp)}; have the sender, or a proxy of yours, put it into a "
            "header of its own."
        )
    if not found.shown.is_canonical:
        return _misspelt(found)
    changes = _changes(scheme, found)
    if changes:
        return _setting(request, scheme, changes)
    if outcome is None:
        return (
            f"It is genuine by today's secrets and settings: resultsink rejected retry {request.id}"
        )
    if outcome.reason == "stale" and seen.skew is not None:
        return (
            f"It is genuine, but was signed {abs(seen.skew):.0f} s "
            f"{'before' if seen.skew > 0 else 'after'} we received it: set the clock right, or, "
            "if the sender tries again with its first timestamp, set "
            f"sources.{request.source}.tolerance to more than {math.ceil(abs(seen.skew))}."
        )
    return f"The right secret signed it, but it is written in a way that is refused: {outcome}."


def _misspelt(found: PossibleMatch) -> str:
    is_hex = found.shown.encoding == "hex"
    came, wanted = ("hex", "lower-case hex") if is_hex else ("base64", "base64 with +, / and =")
    return (
        f"The right secret signed it, but its {came} in {_text(found.shown.header)} is spelt in "
        f"another way: have the sender write it in {wanted}."
    )


def _changes(scheme: AnyScheme, found: PossibleMatch) -> dict[str, str]:
    """Return the signing settings that would have let it in; empty where they are so already."""
    signed = scheme.signature if isinstance(scheme, Bearer) else scheme
    assert signed is not None  # noqa: S101  without one nothing was searched
    form: dict[str, bytes | str | None] = {
        "signature_header": found.shown.header,
        "timestamp_header": found.layout.timestamp_header,
        "id_header": found.layout.id_header,
        "template": found.layout.template,
        "prefix": found.shown.prefix,
        "encoding": found.shown.encoding,
    }
    if _fits(signed, form, found.reading):
        return {}
    for known in SCHEMES.values():
        if _fits(known, form, found.reading):
            return {"scheme": known.name}
    changes = {
        name: _text(value)
        for name, value in form.items()
        if value is not None and value != _of(signed, name)
    }
    if found.reading not in signed.readings:
        changes["readings"] = found.reading
    return changes


def _of(scheme: Scheme, name: str) -> Any:
    return getattr(scheme, name)


def _fits(scheme: Scheme, form: dict[str, Any], reading: str) -> bool:
    return reading in scheme.readings and all(_of(scheme, name) == form[name] for name in form)


def _text(value: bytes | str) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _can_be_set(scheme: AnyScheme, changes: dict[str, object]) -> bool:
    """Return True if a source may have these signing settings."""
    try:
        override(scheme, changes, None)
    except ValueError:
        return False
    return True


def _setting(request: RefusedRequest, scheme: AnyScheme, changes: dict[str, Any]) -> str:
    written = ", ".join(f"{name} = {json.dumps(value)}" for name, value in changes.items())
    try:
        override(scheme, changes, None)
    except ValueError as error:
        return f"The right secret signed it, but as {written}, which cannot be set: {error}."
    return (
        f"In the settings of source {request.source} add to signing: {{ {written} }}; start serve "
        f"again, then: resultsink rejected retry {request.id}"
    )
