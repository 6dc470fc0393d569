"""The fallback: an answer from elsewhere when all else has refused or given up."""
