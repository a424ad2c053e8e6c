"""What clients and their readers are told of rows: snapshots, what was written since, rights to read."""
