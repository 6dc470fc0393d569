"""Judging a run: pure functions over history and ledger."""
