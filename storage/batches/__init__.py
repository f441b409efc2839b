"""Batches: their ledgers, what is outstanding, and which additions were counted."""
