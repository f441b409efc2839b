"""Signing secrets of an account: from the settings, and from a file that may change."""

import os
from collections.abc import Sequence
from pathlib import Path

from receiver.errors import UsageError
from receiver.signatures.keys import BearerToken, Key, doubt, prepare
from receiver.signatures.schemes import AnyScheme
from receiver.telemetry.logs import get_logger
from receiver.telemetry.throttle import Throttle

MAX_KEYS = 10
"""Readings of an account's secrets: each is tried at each of the source's endpoints."""

MAX_FILE_BYTES = 64 * 1024

log = get_logger("sources")


class AccountKeys:
    """The keys of one account, newest first; those of the file come before those of the settings.

    A key's `secret_id` is minus its place among the secrets, so that 1 is the newest: ids of
    stored secrets are positive.
    """

    def __init__(
        self, name: str, scheme: AnyScheme, secrets: Sequence[str], path: Path | None = None
    ) -> None:
        """Raise UsageError, one sentence that names the setting, for a text that is no secret."""
        self._name = name
        self._scheme = scheme
        self._secrets = secrets
        self._path = path
        self._throttle = Throttle()
        self._is_broken = False
        self._seen = None if path is None else _stamp(path)
        self.texts, self.keys = self._read()

    @property
    def is_watched(self) -> bool:
        """True where there is a file to look at."""
        return self._path is not None

    def warn(self) -> None:
        """Log which secrets do not look like this sender's, when serving starts."""
        for place, text in enumerate(self.texts, start=1):
            if (sentence := doubt(self._scheme, text)) is not None:
                log.warning("an odd signing secret", source=self._name, place=place, why=sentence)

    def look(self) -> bool:
        """Read the file if it has changed; return True if its secrets were replaced.

        A broken or missing file changes nothing: the last good secrets stay.
        """
        if self._path is None:
            return False
        stamp = _stamp(self._path)
        if stamp == self._seen and not self._is_broken:
            return False
        try:
            texts, keys = self._read()
        except UsageError as error:
            self._is_broken = True
            self._throttle.log(
                log.error,
                "broken",
                "signing secrets stay as they were",
                source=self._name,
                error=str(error),
            )
            return False
        if _stamp(self._path) != stamp:  # it is just being written: look again
            return False
        self._seen, self.texts, self.keys, self._is_broken = stamp, texts, keys, False
        log.info("signing secrets were read again", source=self._name)
        self.warn()
        return True

    def _read(self) -> tuple[tuple[str, ...], tuple[Key, ...]]:
        texts: list[str] = []
        if self._path is not None:
            try:
                texts = _texts(self._path)
            except (OSError, ValueError) as error:
                raise self._wrong(0, error) from None
        keys: list[Key] = []
        for place, text in enumerate([*texts, *self._secrets], start=1):
            try:
                keys += prepare(self._scheme, text, secret_id=-place)
            except ValueError as error:
                raise self._wrong(place - len(texts), error) from None
        tokens = sum(isinstance(key, BearerToken) for key in keys)
        if max(tokens, len(keys) - tokens) > MAX_KEYS:
            excess = ValueError("there are too many to try them all: take the oldest away")
            raise self._wrong(0 if texts else 1, excess)
        return (*texts, *self._secrets), tuple(keys)

    def _wrong(self, place: int, error: Exception) -> UsageError:
        """`place` counts the secrets of the settings from one; below that it is the file's."""
        setting = f"sources.{self._name}.signing_secrets"
        if place < 1:
            return UsageError(f"The setting {setting}_file is wrong: {self._path}: {error}.")
        return UsageError(f"The setting {setting} is wrong: {error}.")


def _stamp(path: Path) -> tuple[int, ...] | None:
    """Return what changes when the file does; None if there is none."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _texts(path: Path) -> list[str]:
    """Return the secrets in a file, one a line; raises ValueError or OSError."""
    with path.open("rb") as file:
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise ValueError(f"it is larger than {MAX_FILE_BYTES} bytes")
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    texts = [line.strip() for line in lines]
    found = [text for text in texts if text and not text.startswith("#")]
    if not found:
        raise ValueError("it holds no secret")
    return found
