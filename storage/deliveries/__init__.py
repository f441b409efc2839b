"""Deliveries with their events and dead letters, and the quarantine of refused requests."""
