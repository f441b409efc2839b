"""Background jobs: claimed, tried, retried, and ended."""
