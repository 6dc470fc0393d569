"""The adaptive limit: as many calls at a time as do not have to wait for each other."""
