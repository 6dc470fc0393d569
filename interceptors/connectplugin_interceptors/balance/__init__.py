"""Load balancing: which endpoint an attempt goes to, and how that is learned from the others."""
