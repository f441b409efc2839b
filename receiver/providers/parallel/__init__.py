"""Parallel's task API: single runs and task groups."""
