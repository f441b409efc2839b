"""Runs, and the versions of their results."""
