"""What is sent to clients: fan-out of transactions, initial data, repairs, and what these need to know."""
