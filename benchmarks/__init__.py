"""What the chain costs: ratios of pairs that are measured in turns, in one run. `make bench`."""
