"""One response as it arrives: framing, coding, clocks, events, and the loops of requests."""
