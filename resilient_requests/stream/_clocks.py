"""The clocks of one reader: they tell the limit that comes first. Pure: time is passed in."""

from __future__ import annotations

import enum
from operator import itemgetter

__all__ = ["HEARTBEAT", "Clocks", "Expiry", "Heartbeat"]

# The limit divided by this is the silence that is reported as a stall.
_STALLED = 3
# Seconds. A timeout of 0 would make the socket non-blocking.
_LEAST = 0.001


class Expiry(enum.Enum):
    """The limit that was reached."""

    IDLE = "no byte"
    EVENT = "no event"
    HEARTBEAT = "nothing was handed out"


class Heartbeat(enum.Enum):
    """The type of `HEARTBEAT`."""

    HEARTBEAT = "heartbeat"

    def __repr__(self) -> str:
        return "HEARTBEAT"


HEARTBEAT = Heartbeat.HEARTBEAT
"""Yielded after ``heartbeat`` silent seconds: a web view can then notice that its browser left."""


class Clocks:
    """Counts seconds of waiting, and none of the time that the consumer takes.

    ``idle`` is the limit without a byte, ``event`` without an event, ``heartbeat`` without any item
    for the consumer; all in seconds, None is no limit.
    """

    __slots__ = ("alarm", "event", "eventless", "heartbeat", "idle", "silence", "unyielded")

    def __init__(
        self,
        idle: float | None,
        event: float | None,
        heartbeat: float | None,
        *,
        hears_stalls: bool,
    ) -> None:
        self.idle = idle
        self.event = event
        self.heartbeat = heartbeat
        self.silence = self.eventless = self.unyielded = 0.0
        # Seconds of silence to report while they last; None without a listener, or once reported.
        self.alarm = None if idle is None or not hears_stalls else idle / _STALLED

    def left(self) -> float | None:
        """Return the seconds until the first limit, at least 0.001; None without a limit."""
        limits = (
            (self.idle, self.silence),
            (self.alarm, self.silence),
            (self.event, self.eventless),
            (self.heartbeat, self.unyielded),
        )
        left = [limit - spent for limit, spent in limits if limit is not None]
        return max(min(left), _LEAST) if left else None

    def obey(self, idle: float | None) -> None:
        """Use another limit between bytes from now on."""
        self.idle = idle

    def expect(self, event: float | None) -> None:
        """Take another limit between events."""
        self.event = event

    def waited(self, seconds: float) -> None:
        """The reader has waited ``seconds``."""
        self.silence += seconds
        self.eventless += seconds
        self.unyielded += seconds

    def byte(self) -> None:
        """A byte came."""
        self.silence = 0.0

    def yielded(self) -> None:
        """The consumer gets an item that is no event."""
        self.unyielded = 0.0

    def event_came(self) -> None:
        """The consumer gets an event."""
        self.eventless = self.unyielded = 0.0

    def restore(self, eventless: float, unyielded: float) -> None:
        """Take back the last event, which was no progress: its clocks go on as before it."""
        self.eventless, self.unyielded = eventless, unyielded

    def expired(self) -> Expiry | None:
        """Return the limit that was reached, the most serious first; None without one."""
        if self.event is not None and self.eventless >= self.event:
            return Expiry.EVENT
        if self.idle is not None and self.silence >= self.idle:
            return Expiry.IDLE
        if self.heartbeat is not None and self.unyielded >= self.heartbeat:
            return Expiry.HEARTBEAT
        return None

    def limit_in(self, silence: float, idle: float | None) -> tuple[str, float] | None:
        """Return the limit that ends a silence of so many seconds, and in how many; or None.

        ``idle``: the limit between bytes, which somebody else may have set.
        """
        unseen = max(silence - self.silence, 0.0)  # of the wait that is going on
        limits = (("event", self.event, self.eventless + unseen), ("idle", idle, silence))
        left = [(name, limit - spent) for name, limit, spent in limits if limit is not None]
        return min(left, key=itemgetter(1), default=None)

    def take_stall(self) -> float | None:
        """Return the seconds of a silence that should be reported, once.

        None if the silence is short, or was reported.
        """
        if self.alarm is None or self.silence < self.alarm:
            return None
        self.alarm = None
        return self.silence
