"""The keys of a copy: those that decrypt the source, and the one that encrypts the target.

Every secret is encrypted anew on its way, so that one key opens all of the target: the first key
that is given, or else the one beside a SQLite target, or else, with a Postgres target, the one
beside the SQLite source, with which the target must be served.
"""

from collections.abc import Sequence
from pathlib import Path

from storage.copying.sides import Side
from storage.copying.sqlite import SqliteSide
from storage.encryption import CANARY, Vault, read_or_make_keys
from storage.errors import CannotOpen, WrongKey

ENCRYPTED = "ciphertext"
"""The columns of this name, in any table, are encrypted."""


class CopyKeys:
    """The keys of both sides; `file` has the target's key where no keys were given."""

    def __init__(self, source: Side, target: Side, given: Sequence[str]) -> None:
        own: list[str] = []
        if isinstance(source, SqliteSide) and not (given and not source.key_path.exists()):
            own = read_or_make_keys(source.key_path, may_make=False)
        if not (given or own):
            raise CannotOpen(
                f"The secrets in {source.name} are encrypted: set RESULTSINK_ENCRYPTION_KEYS to "
                "the key it was made with."
            )
        self._source_vault = Vault([*given, *own])
        self._target_keys = [*given, *own][:1]
        self.file: Path | None = None
        if not given:
            side = target if isinstance(target, SqliteSide) else source
            self.file = side.key_path if isinstance(side, SqliteSide) else None

    def check_source(self, canary: str | None) -> None:
        """Raise WrongKey where the source was not made with a key of ours."""
        _check(
            self._source_vault,
            canary,
            "The source was made with another key: give that one too, after "
            "the first, in RESULTSINK_ENCRYPTION_KEYS.",
        )

    def settle(self, target: Side, canary: str | None, *, is_new: bool) -> None:
        """Decide the target's key; the key file beside a new database is made now.

        Raises WrongKey where the target was made with another key.
        """
        if self.file is not None and isinstance(target, SqliteSide):
            self._target_keys = read_or_make_keys(self.file, may_make=is_new)
        self._target_vault = Vault(self._target_keys)
        _check(
            self._target_vault,
            canary,
            "The target was made with another key: put that one first in "
            "RESULTSINK_ENCRYPTION_KEYS.",
        )

    def again(self, ciphertext: bytes) -> bytes:
        """Encrypt a value of the source anew, for the target."""
        return self._target_vault.encrypt(self.open(ciphertext))

    def open_copied(self, ciphertext: bytes) -> bytes:
        """Decrypt a value of the target."""
        return self._target_vault.decrypt(bytes(ciphertext))

    def open(self, ciphertext: bytes) -> bytes:
        """Decrypt a value of the source; raises WrongKey."""
        try:
            return self._source_vault.decrypt(bytes(ciphertext))
        except WrongKey:
            raise WrongKey(
                "No key that is given opens all secrets of the source: give those it was served "
                "with, all of them, in RESULTSINK_ENCRYPTION_KEYS."
            ) from None

    def canary(self) -> str:
        """Return the target's canary, by which a key is recognised."""
        return self._target_vault.encrypt(CANARY).decode()


def _check(vault: Vault, canary: str | None, sentence: str) -> None:
    try:
        is_ours = canary is None or vault.decrypt(canary.encode()) == CANARY
    except WrongKey:
        is_ours = False
    if not is_ours:
        raise WrongKey(sentence)
