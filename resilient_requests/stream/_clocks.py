"""The clocks of one reader: which of its limits comes first. Pure: it is told how long was waited."""

from __future__ import annotations

import enum
from operator import itemgetter

__all__ = ["HEARTBEAT", "Clocks", "Expiry", "Heartbeat"]

# A stream has stalled after this part of its limit.
_STALLED = 3
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
"""Yielded after ``heartbeat`` silent seconds, so that a web view can notice that its browser has left."""


class Clocks:
    """Count seconds of waiting, and none of the consumer's time.

    ``idle``: seconds without a byte, ``event`` without an event, ``heartbeat`` without anything
    handed out; each None: no limit.
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
        # Seconds of silence that are told while they last; None where nobody listens, or it was told.
        self.alarm = None if idle is None or not hears_stalls else idle / _STALLED

    def left(self) -> float | None:
        """Return the seconds until the first limit, at least a millisecond; None where there is none."""
        limits = (
            (self.idle, self.silence),
            (self.alarm, self.silence),
            (self.event, self.eventless),
            (self.heartbeat, self.unyielded),
        )
        left = [limit - spent for limit, spent in limits if limit is not None]
        return max(min(left), _LEAST) if left else None

    def obey(self, idle: float | None) -> None:
        """Take another limit between bytes."""
        self.idle = idle

    def waited(self, seconds: float) -> None:
        """So long was waited."""
        self.silence += seconds
        self.eventless += seconds
        self.unyielded += seconds

    def byte(self) -> None:
        """A byte came."""
        self.silence = 0.0

    def yielded(self) -> None:
        """Something is handed out that is no event."""
        self.unyielded = 0.0

    def event_came(self) -> None:
        """An event is handed out."""
        self.eventless = self.unyielded = 0.0

    def restore(self, eventless: float, unyielded: float) -> None:
        """The event that was handed out last was no progress: go on as if it had not come."""
        self.eventless, self.unyielded = eventless, unyielded

    def expired(self) -> Expiry | None:
        """Return the limit that was reached, the gravest first."""
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
        """Return, once, for how long nothing has come, where that is a part of the limit worth telling."""
        if self.alarm is None or self.silence < self.alarm:
            return None
        self.alarm = None
        return self.silence
