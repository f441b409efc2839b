"""The commands about what senders delivered: events, refused requests, dead letters."""
