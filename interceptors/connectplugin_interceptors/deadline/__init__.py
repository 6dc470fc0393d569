"""The deadline: one budget of time for a call, from which everything below it spends."""
