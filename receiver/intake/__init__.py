"""The way of a webhook, from the socket to the COMMIT that comes before its answer."""
