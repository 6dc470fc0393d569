"""The server's rate limit: whoever asks too often is told when to come back."""
