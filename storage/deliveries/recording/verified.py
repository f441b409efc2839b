"""A verified delivery, and the job that it causes."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(slots=True)  # not frozen: one is made for each delivery, and freezing doubles its cost
class VerifiedDelivery:
    """A verified request, with the identity that its signature covers.

    `disposition` is `fetch` (a job is made for `subject`), `ignored` (recorded only) or `unusable`
    (a dead letter at once, for `reason`). `awaits_end` is False where the sender announced
    something else than an end, so that one look is enough. `hints` are keys of the
    job's first `Progress`.
    """

    source: str
    endpoint_id: str | None
    key: str
    disposition: str
    subject_kind: str
    subject: str | None
    headers: str
    body: bytes
    digest: bytes
    reason: str | None = None
    awaits_end: bool = True
    hints: Mapping[str, object] | None = None

    @property
    def key_digest(self) -> bytes:
        """The 16 bytes of (source, event key) in the unique index."""
        text = f"{self.source}\x00{self.key}".encode()
        return hashlib.blake2b(text, digest_size=16).digest()

    @property
    def job_status(self) -> str | None:
        """The first status of the job that this causes; None where it causes none."""
        return _JOBS.get(self.disposition)  # the table refuses one that is unknown

    @property
    def progress(self) -> str | None:
        """The first progress of its job, as JSON."""
        if self.hints is not None:
            return json.dumps({**self.hints, "awaits_end": self.awaits_end})
        return None if self.awaits_end else '{"awaits_end": false}'


_JOBS = {"fetch": "pending", "unusable": "dead", "ignored": None}
