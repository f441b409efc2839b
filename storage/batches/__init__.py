"""Batches: their ledgers, single runs that are outstanding, and idempotency keys."""
