"""The senders: how each signs, names its events, is asked, and is understood."""
