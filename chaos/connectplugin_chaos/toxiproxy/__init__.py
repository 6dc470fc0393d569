"""toxiproxy: finding the program, running it, talking to it, checking what it does."""
