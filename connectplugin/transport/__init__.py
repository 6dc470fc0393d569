"""Ways to a plugin beside the network."""
