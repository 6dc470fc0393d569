"""The serving side: sockets, the ASGI application and its layers, the embedded HTTP server."""
