"""From Postgres' WAL to transactions in the log: the slot, the stream, its decoding."""
