"""resultsink demo."""


def demo() -> None:
    """x"""
