"""Valyu's DeepResearch API: batches, single tasks and contents jobs."""
