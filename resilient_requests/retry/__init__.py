"""What is sent again, when, and at what cost."""
