"""Calls to a sender's API: client pool, rate limits, bounded answers, stream parsers."""
