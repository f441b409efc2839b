"""Adapters of senders: how each signs, names its events, is called, and is read."""
