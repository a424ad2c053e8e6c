"""The Satellite protocol: messages, frames, rows, positions and the sans-I/O session.

Knows no sockets, no clocks and no SQL: it takes decoded messages and answers to the questions it asked, and
returns messages to send and actions to run.
"""
