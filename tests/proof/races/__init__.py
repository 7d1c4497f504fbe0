"""A race scheduler: something happens at any line of a call, and all must be well afterwards."""
