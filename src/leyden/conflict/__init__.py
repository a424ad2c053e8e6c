"""Conflict resolution between clients and Postgres: pure functions on one row."""
