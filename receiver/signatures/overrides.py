"""Changes a provider's scheme by a source's `signing` table."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from receiver.signatures.schemes import BEARER, BODY, SCHEMES, TEMPLATE, AnyScheme, Bearer, Scheme


def override(
    scheme: AnyScheme, settings: Mapping[str, object], tolerance: float | None
) -> AnyScheme:
    """Return the scheme that a source configures; raises ValueError, one sentence.

    The setting `scheme` picks another one to begin with. Where the provider's own is `bearer`, it
    picks the scheme of the signature that must be valid beside the token, and the other settings
    change that signature.
    """
    changes = _read(settings)
    named = changes.pop("scheme", None)
    header = changes.pop("header", None)
    if named == BEARER.name or isinstance(scheme, Bearer):
        base = scheme if isinstance(scheme, Bearer) else BEARER
        if named not in (None, BEARER.name) or changes:
            signed = SCHEMES.get(named, base.signature or BODY)
            base = replace(base, signature=_changed(signed, changes, tolerance))
        return base if header is None else replace(base, header=header)
    if header is not None:
        raise ValueError("signing setting header: is for the scheme bearer only")
    changed = _changed(scheme if named is None else SCHEMES[named], changes, tolerance)
    if changed.timestamp_header is None:
        raise ValueError(TEMPLATE)
    return changed


def _read(settings: Mapping[str, object]) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for name, value in settings.items():
        if name not in _SETTINGS:
            raise ValueError(f"unknown signing setting {name!r}: use {', '.join(_SETTINGS)}")
        try:
            changes[name] = _SETTINGS[name](value)
        except ValueError as error:
            raise ValueError(f"signing setting {name}: {error}") from None
    return changes


def _changed(scheme: Scheme, changes: Mapping[str, Any], tolerance: float | None) -> Scheme:
    """Return the scheme with the changes, and without headers that its template does not sign.

    What is not signed is not read. A timestamp header where there was none is signed as most do.
    """
    changes = dict(changes)
    if scheme.timestamp_header is None and "timestamp_header" in changes:
        changes.setdefault("template", "{timestamp}.{body}")
    template = changes.get("template", scheme.template)
    if "{id}" not in template:
        changes.setdefault("id_header", None)
    if template == "{body}":
        changes.setdefault("timestamp_header", None)
    if tolerance is not None:
        changes["tolerance"] = float(tolerance)
    return replace(scheme, **changes)


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"must be text, not {type(value).__name__}")
    return value


def _ascii(value: object) -> bytes:
    return _string(value).encode("ascii", "replace")


def _header(value: object) -> bytes:
    return _ascii(value).lower()


def _names(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, Sequence) or isinstance(value, bytes):
        raise ValueError(f"must be a list of names, not {type(value).__name__}")
    return tuple(_string(name) for name in value)


def _scheme(value: object) -> str:
    known = (*SCHEMES, BEARER.name)
    if value not in known:
        raise ValueError(f"must be {', '.join(known[:-1])} or {known[-1]}, not {value!r}")
    return _string(value)


_SETTINGS: Final[Mapping[str, Callable[[object], Any]]] = MappingProxyType(
    {
        "scheme": _scheme,
        "header": _header,
        "signature_header": _header,
        "timestamp_header": _header,
        "id_header": _header,
        "template": _string,
        "prefix": _ascii,
        "encoding": _string,
        "readings": _names,
    }
)
