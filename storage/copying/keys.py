"""The keys of a copy: which open what the source has encrypted, which one encrypts it anew.

Every secret is encrypted anew on its way, so that one key opens all of the target: the first key
that is given, or else the one beside a SQLite target, or else, with a Postgres target, the one
beside the SQLite source, which has to be given to whoever serves the target.
"""

from collections.abc import Sequence
from pathlib import Path

from storage.copying.sides import Side
from storage.copying.sqlite import SqliteSide
from storage.encryption import CANARY, Vault, read_or_make_key
from storage.errors import CannotOpen, WrongKey

ENCRYPTED = "ciphertext"
"""The columns of this name, in any table, are encrypted."""


class Keys:
    """What opens the source, what closes the target; `file` has the latter if none is given."""

    def __init__(self, source: Side, target: Side, given: Sequence[str]) -> None:
        own: list[str] = []
        if isinstance(source, SqliteSide) and not (given and not source.key_path.exists()):
            own = [read_or_make_key(source.key_path, may_make=False)]
        if not (given or own):
            raise CannotOpen(
                f"The secrets in {source.name} are encrypted: set RESULTSINK_ENCRYPTION_KEYS to "
                "the key it was made with."
            )
        self._opens = Vault([*given, *own])
        self._closing = [*given, *own][:1]
        self.file: Path | None = None
        if not given:
            side = target if isinstance(target, SqliteSide) else source
            self.file = side.key_path if isinstance(side, SqliteSide) else None

    def check_source(self, canary: str | None) -> None:
        """Raise WrongKey where the source was not made with a key of ours."""
        _check(
            self._opens,
            canary,
            "The source was made with another key: give that one too, after "
            "the first, in RESULTSINK_ENCRYPTION_KEYS.",
        )

    def settle(self, target: Side, canary: str | None, *, is_new: bool) -> None:
        """Settle what closes the target; the key beside a new file is made now.

        Raises WrongKey where whoever serves the target would find another key.
        """
        if self.file is not None and isinstance(target, SqliteSide):
            self._closing = [read_or_make_key(self.file, may_make=is_new)]
        self._closes = Vault(self._closing)
        _check(
            self._closes,
            canary,
            "The target was made with another key: put that one first in "
            "RESULTSINK_ENCRYPTION_KEYS.",
        )

    def again(self, ciphertext: bytes) -> bytes:
        """What the source has encrypted, as the target has it."""
        return self._closes.encrypt(self.open(ciphertext))

    def open_copied(self, ciphertext: bytes) -> bytes:
        """What the target has encrypted."""
        return self._closes.decrypt(bytes(ciphertext))

    def open(self, ciphertext: bytes) -> bytes:
        try:
            return self._opens.decrypt(bytes(ciphertext))
        except WrongKey:
            raise WrongKey(
                "No key that is given opens all secrets of the source: give those it was served "
                "with, all of them, in RESULTSINK_ENCRYPTION_KEYS."
            ) from None

    def canary(self) -> str:
        """What a target says to whoever asks whether his key is the right one."""
        return self._closes.encrypt(CANARY).decode()


def _check(vault: Vault, canary: str | None, sentence: str) -> None:
    try:
        is_ours = canary is None or vault.decrypt(canary.encode()) == CANARY
    except WrongKey:
        is_ours = False
    if not is_ours:
        raise WrongKey(sentence)
