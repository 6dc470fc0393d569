"""Remote-first plugins over Connect RPC."""
