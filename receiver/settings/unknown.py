"""Suggestions for settings and variables that do not exist."""

from collections.abc import Collection, Sequence
from difflib import get_close_matches

PREFIX = "RESULTSINK_"


def close_to(name: str, known: Collection[str]) -> str | None:
    """Return the known name that another is most like, None where it is like none."""
    return next(iter(get_close_matches(name.lower(), [*known], n=1)), None)


def hint(
    place: Sequence[str],
    top: Collection[str],
    of_sources: Collection[str],
    of_ages: Collection[str],
) -> str:
    """Return what to do about an unknown setting at a place such as sources, valyu, apikey."""
    *above, name = place
    if not above:
        if name in of_sources:
            return "it belongs to a source: write it below [sources.NAME]"
        known = top
    elif above[0] == "sources":
        if name in top:
            return "it belongs to no source: write it above the first [table]"
        known = of_sources
    else:
        known = of_ages
    meant = close_to(name, known)
    return f"did you mean {meant}?" if meant else "see docs/settings.md for those that there are"


def variable_meant(
    setting: str, *, top: Collection[str], of_sources: Collection[str]
) -> str | None:
    """Return the variable that was meant by one without its prefix, None where nobody knows."""
    first, underscores, rest = setting.partition("__")
    table, _, inside = setting.partition("_")
    ends = [field for field in of_sources if inside.endswith(f"_{field}")]
    if not underscores and ends and table in ("source", "sources"):  # joined by single ones
        field = max(ends, key=len)
        return f"{PREFIX}SOURCES__{inside.removesuffix(f'_{field}')}__{field}".upper()
    meant = close_to(first, top)
    return f"{PREFIX}{meant}{underscores}{rest}".upper() if meant else None
