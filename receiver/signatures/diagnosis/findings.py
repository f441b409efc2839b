"""Types of a diagnosis: what it looks at, and what it finds."""

from dataclasses import dataclass, field

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class RefusedRequest:
    """A refused request from the quarantine; `is_whole` unless its body was cut."""

    id: int
    source: str
    endpoint_id: str | None
    headers: Headers
    body: bytes
    is_whole: bool
    received_at: float
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class KnownSecret:
    """A registered secret, where it belongs, and whether it counts at the request's endpoint."""

    text: str = field(repr=False)
    place: str
    counts_here: bool


@dataclass(frozen=True, slots=True)
class PossibleMac:
    """A part of a header that may be a MAC: where it stands and how it is spelt."""

    mac: bytes
    header: bytes
    prefix: bytes
    encoding: str
    is_canonical: bool


@dataclass(frozen=True, slots=True)
class Layout:
    """A possible head of the signed message, and the headers that its parts stand in."""

    template: str
    timestamp_header: bytes | None
    id_header: bytes | None
    head: bytes


@dataclass(frozen=True, slots=True)
class PossibleMatch:
    """A match that was missed: which secret, read how, over which bytes."""

    secret: KnownSecret
    reading: str
    shown: PossibleMac
    layout: Layout
    body: str


@dataclass(frozen=True, slots=True)
class ExpectedHeader:
    """A header that the scheme reads; `came` is None where no trace of it is kept."""

    header: str
    came: bool | None
    look_alikes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CheckedSecret:
    """A secret that was tried, and the readings of its text."""

    secret: str
    readings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The whole explanation; `skew` is the time from signing to receipt, in seconds."""

    scheme: str
    headers: tuple[ExpectedHeader, ...]
    tried: tuple[CheckedSecret, ...]
    skew: float | None
    tolerance: float | None
    would_match: dict[str, str] | None
    advice: str
