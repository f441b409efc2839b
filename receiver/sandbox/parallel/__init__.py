"""A simulated Parallel task API, with groups, runs and signed webhooks."""
