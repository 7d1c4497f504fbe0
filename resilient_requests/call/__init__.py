"""What is known of one call while it runs: its clocks, limits, scope, attempts and events."""
