"""Who is let in and may read or write what, kept in force while the service runs."""
