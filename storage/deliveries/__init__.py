"""What was delivered: events with their deliveries, and the quarantine of refused requests."""
