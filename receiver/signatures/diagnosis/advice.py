"""One sentence: what has to be set or done so that such a request is let in."""

import json
import math
from typing import Any

from receiver.errors import SignatureError
from receiver.signatures.diagnosis.findings import Diagnosis, Found, Kept, Known
from receiver.signatures.diagnosis.variants import AS_IT_CAME
from receiver.signatures.overrides import override
from receiver.signatures.schemes import SCHEMES, AnyScheme, Bearer, Scheme


def advise(
    kept: Kept,
    scheme: AnyScheme,
    knowns: list[Known],
    found: Found | None,
    outcome: SignatureError | None,
    seen: Diagnosis,
) -> str:
    """`outcome` is what today's secrets and settings say of it, None for: genuine."""
    if isinstance(scheme, Bearer) and (scheme.signature is None or _is_token(scheme, kept)):
        return _token(scheme, kept, seen)
    if not kept.is_whole:
        return "Its body was cut at 64 kB, so that nothing can be checked again: the sender must."
    if found is not None:
        return _matching(kept, scheme, found, outcome, seen)
    if not any(known.is_tried for known in knowns):
        where = f"resultsink endpoint secret {kept.endpoint_id}"
        if kept.endpoint_id is None:
            where = f"sources.{kept.source}.signing_secrets"
        return f"No secret is registered here: register the sender's with {where}."
    missing = [wanted for wanted in seen.headers if wanted.came is False]
    if missing:
        return _missing(missing[0].header, [*missing[0].look_alikes])
    if outcome is not None and outcome.reason == "malformed":
        return f"The sender must write it in another way: {outcome}."
    return (
        "No registered secret fits, however it is read: compare the secret that is registered "
        "here with the one that the sender showed for this URL; if it is right, this is forged."
    )


def _is_token(scheme: Bearer, kept: Kept) -> bool:
    return "token" in kept.detail or scheme.header.decode() in kept.detail


def _token(scheme: Bearer, kept: Kept, seen: Diagnosis) -> str:
    header = scheme.header.decode()
    lost = "this request cannot be checked again, because tokens are never kept."
    for other in seen.headers[0].look_alikes:
        if _can_be_set(scheme, {"header": other}):
            return (
                f"{header} did not come, but {' and '.join(seen.headers[0].look_alikes)} did: if "
                f"the token stands there, add to signing of source {kept.source}: "
                f"{{ header = {json.dumps(other)} }}, and start serve again; {lost}"
            )
    if "different values" in kept.detail:
        return (
            f"{header} came more than once, with different values: have the sender, or the proxy "
            f"before us, send it once; {lost}"
        )
    how = {
        "missing": f"The sender showed no token: have it send the header {header}: Bearer TOKEN",
        "malformed": f"What came in {header} is no token: have the sender send Bearer TOKEN there",
    }.get(kept.reason, "The token is none that is registered: give the sender one that is")
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
    kept: Kept, scheme: AnyScheme, found: Found, outcome: SignatureError | None, seen: Diagnosis
) -> str:
    if not found.known.is_tried:
        return (
            f"It is signed with {found.known.place}: give the sender that endpoint's URL, or "
            "register the secret here too."
        )
    if found.body != AS_IT_CAME:
        return (
            f"Something on the way wrote the body anew (it was signed {found.body}): have the "
            "proxy pass bodies on unchanged."
        )
    stamp = found.layout.timestamp_header
    if stamp is not None and not any(n == stamp and v.isdigit() for n, v in kept.headers):
        return (
            "The right secret signed it, but in a form that cannot be set: the timestamp stands "
            f"inside of {_text(stamp)}; have the sender, or a proxy of yours, put it into a "
            "header of its own."
        )
    if not found.shown.is_canonical:
        return _misspelt(found)
    changes = _changes(scheme, found)
    if changes:
        return _setting(kept, scheme, changes)
    if outcome is None:
        return f"It is genuine by today's secrets and settings: resultsink rejected retry {kept.id}"
    if outcome.reason == "stale" and seen.skew is not None:
        return (
            f"It is genuine, but was signed {abs(seen.skew):.0f} s "
            f"{'before' if seen.skew > 0 else 'after'} we received it: set the clock right, or, "
            "if the sender tries again with its first timestamp, set "
            f"sources.{kept.source}.tolerance to more than {math.ceil(abs(seen.skew))}."
        )
    return f"The right secret signed it, but it is written in a way that is refused: {outcome}."


def _misspelt(found: Found) -> str:
    is_hex = found.shown.encoding == "hex"
    came, wanted = ("hex", "lower-case hex") if is_hex else ("base64", "base64 with +, / and =")
    return (
        f"The right secret signed it, but its {came} in {_text(found.shown.header)} is spelt in "
        f"another way: have the sender write it in {wanted}."
    )


def _changes(scheme: AnyScheme, found: Found) -> dict[str, str]:
    """The signing settings that would have let it in; empty where they are so already."""
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
    """Whether a source may have these signing settings."""
    try:
        override(scheme, changes, None)
    except ValueError:
        return False
    return True


def _setting(kept: Kept, scheme: AnyScheme, changes: dict[str, Any]) -> str:
    written = ", ".join(f"{name} = {json.dumps(value)}" for name, value in changes.items())
    try:
        override(scheme, changes, None)
    except ValueError as error:
        return f"The right secret signed it, but as {written}, which cannot be set: {error}."
    return (
        f"In the settings of source {kept.source} add to signing: {{ {written} }}; start serve "
        f"again, then: resultsink rejected retry {kept.id}"
    )
