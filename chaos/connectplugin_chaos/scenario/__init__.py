"""Scenarios: what is broken when, under which load, and what must hold."""
