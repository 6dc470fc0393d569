"""Outlier ejection: endpoints that do much worse than their peers get no traffic for a while."""
