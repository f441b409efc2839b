"""Limits of Parallel's create calls."""

MAX_INPUT = 25_000
MAX_KEY, MAX_VALUE = 16, 512


def check_input(given: object) -> None:
    """Raise ValueError, one sentence, for an input that is missing or too long."""
    if not isinstance(given, str | dict) or not given:
        raise ValueError("the input is missing or empty: text or a JSON object is needed")
    length = len(given) if isinstance(given, str) else sum(len(str(v)) for v in given.values())
    if length > MAX_INPUT:
        raise ValueError(f"the input has {length} characters; {MAX_INPUT} are allowed")


def checked(metadata: dict[str, object]) -> dict[str, object]:
    """Return metadata of short names, short texts, numbers and booleans; raises ValueError."""
    for key, value in metadata.items():
        if len(key) > MAX_KEY:
            raise ValueError(f"the metadata `{key}` has a name of more than {MAX_KEY} characters")
        if not isinstance(value, str | int | float | bool):
            raise ValueError(f"the metadata `{key}` must be text or a number")
        if isinstance(value, str) and len(value) > MAX_VALUE:
            raise ValueError(f"the metadata `{key}` has more than {MAX_VALUE} characters")
    return metadata
