"""Chaos harness: breaks network, processes and servers, and says what the chain made of it."""
