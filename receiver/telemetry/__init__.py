"""Structured logs, written off the event loop."""
