"""Postgres: any number of processes serve one database."""
