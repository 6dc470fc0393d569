"""The rate limit: so many calls a second, exactly counted, first come first served."""
