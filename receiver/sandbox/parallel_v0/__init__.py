"""A simulated Parallel v0 API, with batches, exports and webhooks."""
