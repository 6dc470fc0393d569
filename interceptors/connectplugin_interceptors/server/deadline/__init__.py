"""The server's side of deadlines: what has expired is dropped, what runs too long is cancelled."""
