"""Transports of the plugin system's own: to a plugin in this process."""
