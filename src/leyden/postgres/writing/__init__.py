"""What clients upload, written as one Postgres transaction each; refused uploads and what becomes of them."""
