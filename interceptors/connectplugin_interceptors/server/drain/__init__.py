"""Drain: stop taking calls, let those in flight end, then end them."""
