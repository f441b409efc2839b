"""What can go wrong in the receiver, as one tree.

ReceiverError
├── UsageError          the caller asked for something that cannot be; one sentence, exit code 2
├── NotDone             rightly asked for, but the sender said no, or it cannot be done now; code 1
├── SignatureError      a delivery is not proven genuine
└── FetchError          one try at the sender's API brought nothing usable
    ├── NotReady        the sender says "not yet": asked again, no failure counted
    │   └── Unasked     something of ours comes first: the sender was not asked
    │       └── Unbound we do not know yet what to ask the sender for
    ├── RateLimited     429: asked again when the sender says, no failure counted
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
    """Was asked for something that cannot be done; the text says what to do instead."""


class NotDone(ReceiverError):
    """Was refused by the sender, did not reach it, or could not store what came of it.

    The text says what was done, what was not, and how to go on.
    """


class SignatureError(ReceiverError):
    """Could not prove that a delivery is genuine.

    `reason` is one word for logs and the quarantine (`missing`, `malformed`, `stale`, `mismatch`);
    the text is for the operator and never for the sender.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class FetchError(ReceiverError):
    """Got nothing usable from one try at the sender's API.

    `retry_after` is what the sender asked for, in seconds, or None.
    """

    def __init__(self, text: str, *, retry_after: float | None = None) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class NotReady(FetchError):
    """Was told by the sender that the resource is not finished yet."""


class Unasked(NotReady):
    """Did not ask the sender, since something else comes first: it proves nothing about him."""


class Unbound(Unasked):
    """Was not told yet which batch or run an endpoint is for."""


class RateLimited(FetchError):
    """Was told by the sender to slow down."""


class Missing(FetchError):
    """Was told by the sender that it does not know the resource (yet, or any more)."""


class Unavailable(FetchError):
    """Found the sender's API down, slow, or answering with something that is no answer."""


class Unreadable(Unavailable):
    """Was answered, and by no error, but with what cannot be read."""


class Refused(FetchError):
    """Was refused this one resource for good."""


class SourceRefused(FetchError):
    """Was refused as an account: a wrong key, no credit, no permission."""


class Forbidden(SourceRefused):
    """Was refused with a 403, which may speak of the account or of one resource alone."""
