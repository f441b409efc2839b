"""Endpoints and their signing secrets."""
