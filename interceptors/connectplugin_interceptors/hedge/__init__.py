"""Hedging: a second attempt while the first one is still out, and whoever answers first wins."""
