"""Observation: subscribers to ``events.py``. Nothing else in the service formats a log line."""
