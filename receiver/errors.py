"""Errors of the receiver, as one tree.

ReceiverError
├── UsageError          the caller wants something that cannot be; one sentence, exit code 2
├── NotDone             rightly wanted, but the sender said no, or it cannot be done now; code 1
├── SignatureError      a delivery is not proven genuine
└── FetchError          one attempt at the sender's API gave nothing usable
    ├── NotReady        the sender says "not yet": called again, no failure counted
    │   └── Unasked     something of ours comes first: the sender was not called
    │       └── Unbound we do not know yet which resource to fetch
    ├── RateLimited     429: called again when the sender says, no failure counted
    ├── Missing         404: may be too early; retried for a while, then permanent
    ├── Unavailable     5xx, timeouts, resets, no answer at all: backed off for days
    │   └── Unreadable  a success that is none: HTML or half a document where JSON should be
    ├── Refused         the sender refuses this one resource for good
    └── SourceRefused   the sender refuses the account (key, credit, permission): pauses the source
        └── Forbidden   403: perhaps the account, perhaps this one resource
"""


class ReceiverError(Exception):
    """Base of all errors raised by the receiver."""


class UsageError(ReceiverError):
    """The caller wants something that cannot be done; the text says what to do instead."""


class NotDone(ReceiverError):
    """The sender refused, was not reached, or its answer could not be stored.

    The text says what was done, what was not, and how to go on.
    """


class SignatureError(ReceiverError):
    """A delivery is not proven genuine.

    `reason` is one word for logs and the quarantine (`missing`, `malformed`, `stale`, `mismatch`);
    the text is for the operator and never for the sender.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class FetchError(ReceiverError):
    """One attempt at the sender's API gave nothing usable.

    `retry_after` is the wait that the sender asked for, in seconds, or None.
    """

    def __init__(self, text: str, *, retry_after: float | None = None) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class NotReady(FetchError):
    """The sender says that the resource is not finished yet."""


class Unasked(NotReady):
    """The sender was not called, since something of ours comes first: it proves nothing of it."""


class Unbound(Unasked):
    """The batch or run of an endpoint is not known yet."""


class RateLimited(FetchError):
    """The sender says that we call too often."""


class Missing(FetchError):
    """The sender does not know the resource (yet, or any more)."""


class Unavailable(FetchError):
    """The sender's API is down, slow, or answers with something that is no answer."""


class Unreadable(Unavailable):
    """The sender answered with a success that cannot be read."""


class Refused(FetchError):
    """The sender refuses this one resource for good."""


class SourceRefused(FetchError):
    """The sender refuses the account: a wrong key, no credit, no permission."""


class Forbidden(SourceRefused):
    """The sender answered 403, which may be about the account or about one resource."""
