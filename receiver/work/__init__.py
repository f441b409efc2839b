"""Background jobs: claimed, attempted, retried, and ended."""
