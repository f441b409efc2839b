"""Proving a request genuine, and explaining why one was not; without I/O."""
