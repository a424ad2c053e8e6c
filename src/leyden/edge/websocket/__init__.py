"""WebSockets on uvicorn, read and written with as little work as can be."""
