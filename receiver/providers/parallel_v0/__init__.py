"""Parallel's older v0 API: batches of runs of a stored task."""
