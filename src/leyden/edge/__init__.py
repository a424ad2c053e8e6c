"""The edge: ASGI app, WebSocket shell, fan-out. Knows no SQL and none of the protocol's rules."""
