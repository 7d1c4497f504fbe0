"""Real clients of other people beside us: what becomes of their calls, plain and with our adapter."""
