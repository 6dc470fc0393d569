"""The client's throttle: who is refused too often stops asking for a while, more or less."""
