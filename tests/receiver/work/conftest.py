"""Logging of these tests: exceptions are expected, and pretty tracebacks take a second each."""

import pytest
import structlog


@pytest.fixture(autouse=True)
def _plain_tracebacks() -> None:
    renderer = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[structlog.processors.add_log_level, renderer])
