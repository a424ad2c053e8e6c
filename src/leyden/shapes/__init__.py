"""Shapes: which rows a client asked for. Knows no sockets and no encoding."""
