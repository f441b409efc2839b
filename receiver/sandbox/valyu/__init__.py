"""A simulated Valyu DeepResearch API, with batches, tasks, contents jobs and webhooks."""
