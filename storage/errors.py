"""Errors of the storage, as one tree.

StorageError
├── CannotOpen          the database or its key cannot be used; one sentence, nothing was changed
│   ├── WrongKey        the encryption key is not the one this database was written with
│   ├── NewerSchema     the database was written by a newer version of this program
│   ├── AlreadyServed   another process serves this database
│   └── NoDatabase      there is none yet, and it was not to be made
├── CannotStore         nothing was written now; trying again later may succeed
│   └── DiskFull        too little space is left to promise that a commit survives
├── CopyFailed          a copy could not be made, or verified; the target is as it was
├── LeaseLost           the job is no longer ours, so nothing was written
├── ExportChanged       a run gained a column, or a result was pruned, meanwhile: export again
├── SubmissionTaken     another process goes on with this submission, so nothing was written
├── KeyInProgress       a request under this idempotency key is being carried out
├── KeyOfAnotherRequest this idempotency key was used for another request
├── SecretRefused       a signing secret was replaced, or there are too many: it was not added
├── TokenExpired        this token was valid until its time
└── NotFound            there is no such endpoint, batch, event or job
"""


class StorageError(Exception):
    """Base of all errors raised by the storage."""


class CannotOpen(StorageError):
    """Could not use the database or its key; the text says what to do."""


class WrongKey(CannotOpen):
    """Was given a key that did not encrypt this database's secrets."""


class NewerSchema(CannotOpen):
    """Met a schema revision that this version does not know."""


class AlreadyServed(CannotOpen):
    """Found another process serving the same database."""


class NoDatabase(CannotOpen):
    """Found no database, and was not to make one."""


class CannotStore(StorageError):
    """Could not commit now: locked, closed, read-only, or failing."""


class DiskFull(CannotStore):
    """Refused to write into the last megabytes of the disk."""


class CopyFailed(StorageError):
    """Could not copy a database, or read back what it wrote; nothing was kept of it."""


class LeaseLost(StorageError):
    """Found the job in other hands or already ended; the write did nothing."""


class ExportChanged(StorageError):
    """Found the rows changed while they were written; exporting again will do."""


class SubmissionTaken(StorageError):
    """Found a submission gone on with by another process; the write did nothing."""


class KeyInProgress(StorageError):
    """Found a request under the same idempotency key that is not answered yet."""


class KeyOfAnotherRequest(StorageError):
    """Found the idempotency key of a request that was another one."""


class SecretRefused(StorageError):
    """Would not add a signing secret that could not, or should not, verify; says what to do."""


class TokenExpired(StorageError):
    """Was shown a token whose time is over."""

    def __init__(self, token_id: int) -> None:
        super().__init__(f"Token {token_id} has expired: make another one.")
        self.token_id = token_id


class NotFound(StorageError):
    """Did not find what was named; the text names it."""
