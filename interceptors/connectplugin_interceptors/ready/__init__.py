"""`wait_for_ready`: a call that cannot be sent waits until something can be reached (as gRPC's)."""
