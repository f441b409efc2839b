"""Capabilities: what only some senders have. A provider inherits those that its sender has.

Callers ask with `isinstance(provider, CancelsRuns)`. Where a user asks for what the sender lacks,
the functions of `require` refuse it in one sentence.
"""
