"""Waiting: long enough for a machine that does much else, for what counts is that it comes."""

from collections.abc import Callable
from typing import Any

from tests import processes

PATIENCE = 150.0


def until(condition: Callable[[], Any], *, seconds: float = PATIENCE) -> Any:
    """The condition's value once it is true; fails after `seconds`."""
    return processes.until(condition, seconds=seconds)
