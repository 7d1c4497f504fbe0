"""When the bytes and events of a body come."""

from __future__ import annotations

__all__ = ["StreamTimings"]


class StreamTimings:
    """How a body comes, over all loops that read it; seconds, since the attempt began.

    Belongs to the thread that reads. ``longest_gap`` is only kept where somebody wants to know.
    """

    __slots__ = ("events_received", "first_byte", "first_event", "has_stalled", "longest_gap")

    def __init__(self) -> None:
        self.events_received = 0
        self.first_byte: float | None = None
        self.first_event: float | None = None
        self.longest_gap = 0.0
        self.has_stalled = False

    def waited(self, silence: float) -> None:
        """No byte has come for so long."""
        self.longest_gap = max(self.longest_gap, silence)

    def bytes_came(self, age: float) -> None:
        """Bytes came at this age of the attempt."""
        if self.first_byte is None:
            self.first_byte = age

    def event_came(self, age: float) -> None:
        """An event came at this age of the attempt."""
        if self.first_event is None:
            self.first_event = age

    def count_event(self) -> None:
        """One more event was handed out."""
        self.events_received += 1

    def stalled(self) -> None:
        """A silence was told, which is done once."""
        self.has_stalled = True
