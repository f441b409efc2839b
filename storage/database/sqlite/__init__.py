"""SQLite: one process serves a file, and one thread of it writes."""
