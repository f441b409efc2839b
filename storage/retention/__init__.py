"""Letting go of what is old, little by little; nothing that is alive, and nothing that counts.

    kind        what goes                                once older than its age, and
    ----------  ---------------------------------------  -----------------------------------------
    attempts    the row                                  its job has ended
    deliveries  body and headers; the row stays          no job of its event is alive
    jobs        the row                                  it has ended; its attempts are gone
    events      the row, and the rows of its deliveries  nobody delivers it any more; its jobs and
                                                         its bodies are gone
    versions    the row of a superseded result           what superseded it is that old
    results     output, sources, error, raw; the row     its batch is not open
                stays, so that every ledger still adds
                up and nothing is fetched again

Alive is a job that waits, runs, or is a dead letter: that needs its event, and what was delivered,
to be replayed. What is emptied keeps its digest, so that the same again is still known as the same.

Rows are walked by their key from the oldest on, for keys grow with time: no index is needed, and
what is too young ends the walk. A step looks first, outside of the transaction that then takes a
few hundred rows at most, and asks there once more whether they may go.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from storage.retention.ages import Ages
from storage.retention.kinds import KINDS as _KINDS
from storage.retention.walk import Found, Step, let_go, look, span

__all__ = [
    "AGE_OF", "KINDS", "Ages", "Found", "Step", "let_go", "look", "span",
]  # fmt: skip

KINDS: Final = tuple(_KINDS)
"""All kinds, each behind those that hang on it."""

AGE_OF: Final[Mapping[str, str]] = MappingProxyType({kind: _KINDS[kind].age for kind in _KINDS})
"""Which of the ages is that of a kind."""
