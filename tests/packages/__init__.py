"""Real clients of other people: what becomes of their calls, plain and with our adapter."""
