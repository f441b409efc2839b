"""Verifies that a request is genuine, and explains why one was not; without I/O."""
