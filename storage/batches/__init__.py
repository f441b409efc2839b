"""Batches: their ledgers, submissions not yet finished, and single runs that are outstanding."""
