"""Where an export goes: standard output, or a file that appears only when it is whole."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from receiver.errors import UsageError


@contextmanager
def target(path: Path | None) -> Iterator[IO[bytes]]:
    """Open standard output, or a file that gets its name only when it is whole."""
    if path is None:
        if sys.__stdout__ is None:
            raise UsageError("Standard output is closed: give --output FILE.")
        try:
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        except BrokenPipeError:  # the reader has enough
            raise
        except OSError as error:
            raise UsageError(f"Standard output cannot be written: {error.strerror}.") from error
        return
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.") from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except OSError as error:
        os.unlink(name)
        raise UsageError(f"{path} cannot be written: {error.strerror}.") from error
    except BaseException:
        os.unlink(name)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
