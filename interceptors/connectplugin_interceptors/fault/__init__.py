"""Fault injection: calls that are slow, fail, hang or break off on purpose."""
