"""Open-loop load: a schedule from a seed, and the calls it asks for."""
