"""Secrets at rest: encrypted with Fernet, under one or several keys, checked by a canary."""

import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from storage.errors import CannotOpen, WrongKey

CANARY = b"resultsink"


class Vault:
    """Encrypts and decrypts under `keys`, newest first, so that keys can rotate.

    Raises CannotOpen for an invalid key, WrongKey for a text that no key opens.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        try:
            fernets = [Fernet(key.strip()) for key in keys]
            self._fernet, self._first = MultiFernet(fernets), MultiFernet(fernets[:1])
        except ValueError:
            raise CannotOpen(
                "An encryption key is not valid: give 32 random bytes in url-safe base64, "
                "as `openssl rand -base64 32 | tr +/ -_` makes them."
            ) from None

    def encrypt(self, text: bytes) -> bytes:
        return self._fernet.encrypt(text)

    def is_under_first(self, ciphertext: bytes) -> bool:
        """Return True where the first key opens it, so that no other is needed."""
        try:
            self._first.decrypt(ciphertext)
        except InvalidToken:
            return False
        return True

    def decrypt(self, ciphertext: bytes) -> bytes:
        try:
            return self._fernet.decrypt(ciphertext)
        except InvalidToken:
            raise WrongKey(
                "The encryption key does not open this database: give the key it was made with."
            ) from None


def new_key() -> str:
    """Return a fresh key: 32 random bytes in url-safe base64."""
    return Fernet.generate_key().decode()


def read_or_make_keys(path: Path, *, may_make: bool) -> list[str]:
    """Return the keys in the file at `path`, one a line, the newest first.

    The file is made (0600), with one key, where it is missing and may be made: only beside a new
    database. Beside an old one, a missing file means that the key is elsewhere, which a new key
    would hide.
    """
    try:
        return _keys_in(path)
    except FileNotFoundError:
        if not may_make:
            raise WrongKey(
                f"The key file {path} is missing: restore it from the backup, or give the key in "
                "RESULTSINK_ENCRYPTION_KEYS."
            ) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no key"
        raise CannotOpen(f"The key file {path} cannot be read: {reason}.") from error
    return _make_key(path)


def _keys_in(path: Path) -> list[str]:
    return path.read_text("ascii").split()


def _make_key(path: Path) -> list[str]:
    """Make a key file under another name first, so that no reader finds a part of it."""
    key = new_key()
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        _write_synced(draft, key + "\n")
        os.link(draft, path)
    except FileExistsError:  # another process was quicker; its key is the key
        return _keys_in(path)
    except OSError as error:
        raise CannotOpen(
            f"The key file {path} cannot be made: {error.strerror}. "
            "Give a path that can be written in RESULTSINK_DATABASE_URL."
        ) from error
    finally:
        with suppress(OSError):  # there is none where nothing can be written
            draft.unlink()
    return [key]


def _write_synced(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
