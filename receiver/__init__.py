"""The receiver: takes webhooks in, fetches the results they announce, and hands them on."""
