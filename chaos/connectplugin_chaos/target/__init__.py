"""Plugins of others under test: found by name, called as a scenario file says."""
