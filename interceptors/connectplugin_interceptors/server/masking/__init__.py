"""Error masking: what a client may read of a failure in the server."""
