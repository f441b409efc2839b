"""Calls to a sender's API: pooled clients, rate limits, bounded answers, streams."""
