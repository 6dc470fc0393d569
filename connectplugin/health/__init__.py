"""Whether a server, and each plugin on it, takes calls."""
