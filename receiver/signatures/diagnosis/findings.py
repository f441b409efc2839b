"""What is looked at to explain a refusal, and what is found."""

from dataclasses import dataclass, field

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Kept:
    """A refused request, as the quarantine kept it; `is_whole` unless its body was cut."""

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
class Known:
    """A registered secret: where it belongs, and whether it is tried where the request came."""

    text: str = field(repr=False)
    place: str
    is_tried: bool


@dataclass(frozen=True, slots=True)
class Shown:
    """Something in a header that may be a MAC: where it stands and how it is spelt."""

    mac: bytes
    header: bytes
    prefix: bytes
    encoding: str
    is_canonical: bool


@dataclass(frozen=True, slots=True)
class Layout:
    """What may have been signed in front of the body, and the headers that its parts stand in."""

    template: str
    timestamp_header: bytes | None
    id_header: bytes | None
    head: bytes


@dataclass(frozen=True, slots=True)
class Found:
    """What would have matched: which secret, read how, over which bytes."""

    known: Known
    reading: str
    shown: Shown
    layout: Layout
    body: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """A header that the scheme reads; `came` is None where we keep no trace of it."""

    header: str
    came: bool | None
    look_alikes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TriedSecret:
    """A secret that was tried, and how its text was read."""

    secret: str
    readings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The whole explanation. `skew` is how many seconds before its receipt it was signed."""

    scheme: str
    headers: tuple[Wanted, ...]
    tried: tuple[TriedSecret, ...]
    skew: float | None
    tolerance: float | None
    would_match: dict[str, str] | None
    advice: str
