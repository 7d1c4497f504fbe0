"""The story of one call, as events: its attempts, what follows from each, and its stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resilient_requests.call import _causes, _events
from resilient_requests.call._events import (
    AttemptFailed,
    AttemptStarted,
    AttemptSucceeded,
    Emitter,
    RetryDenied,
    RetryScheduled,
    StreamEnded,
)

if TYPE_CHECKING:
    from resilient_requests.call._attempt import Attempt, AttemptRecord

__all__ = ["Pace", "Story"]


class Pace:
    """How a body comes, as its readers see it; belongs to who reads. Durations in seconds, since the attempt began.

    ``longest_gap`` is only kept where somebody wants to know.
    """

    __slots__ = ("events_received", "first_byte", "first_event", "has_stalled", "longest_gap")

    def __init__(self) -> None:
        self.events_received = 0
        self.first_byte: float | None = None
        self.first_event: float | None = None
        self.longest_gap = 0.0
        self.has_stalled = False  # and that was told


class Story:
    """Tells observers and the log of one call; immutable, and builds nothing where nobody listens."""

    __slots__ = ("_emitter", "_method", "origin")

    def __init__(self, emitter: Emitter, origin: str, method: str = "") -> None:
        self._emitter = emitter
        self.origin = origin  # of the request, whatever proxy it goes through
        self._method = method

    @property
    def is_of_pace(self) -> bool:
        """Whether anybody wants to know how a body comes: measuring it takes a look at the clock per read."""
        return self._emitter.wants(StreamEnded)

    @property
    def is_of_stalls(self) -> bool:
        """Whether anybody wants to know of a silence while it lasts."""
        return _events.hears_stalls()

    def started(self, attempt: Attempt) -> None:
        """An attempt begins."""
        if self._emitter.wants(AttemptStarted):
            self._emitter.emit(AttemptStarted(**self._of(attempt), method=self._method))

    def succeeded(self, attempt: Attempt, status: int, elapsed: float) -> None:
        """An attempt brought a response."""
        if self._emitter.wants(AttemptSucceeded):
            facts = self._of_sending(attempt)
            self._emitter.emit(
                AttemptSucceeded(**self._of(attempt), status=status, elapsed=elapsed, **facts)
            )

    def failed(
        self,
        attempt: Attempt,
        error: BaseException,
        elapsed: float,
        handled: BaseException | None = None,
    ) -> None:
        """An attempt brought none; ``handled`` as in `_causes.causes`."""
        if self._emitter.wants(AttemptFailed):
            self._emitter.emit(
                AttemptFailed(
                    **self._of(attempt),
                    phase=attempt.phase.value,
                    **self._of_sending(attempt),
                    error=_causes.describe(error, handled),
                    errno=_causes.errno_of(error, handled),
                    elapsed=elapsed,
                )
            )

    def scheduled(
        self, call_id: str, record: AttemptRecord, *, wait: float, reason: str, errno: int | None
    ) -> None:
        """Another attempt will follow after so many seconds."""
        self._emitter.emit(
            RetryScheduled(
                call_id=call_id,
                origin=self.origin,
                attempt=record.number,
                wait=wait,
                reason=reason,
                reused=record.reused,
                idle_for=record.idle_for,
                phase=record.phase,
                errno=errno,
            )
        )

    def denied(self, call_id: str, number: int, reason: str) -> None:
        """No other attempt follows."""
        self._emitter.emit(
            RetryDenied(call_id=call_id, origin=self.origin, attempt=number, reason=reason)
        )

    def stalled(self, attempt: Attempt, silence: float, idle_timeout: float) -> None:
        """No byte of a body has come for a part of its limit."""
        facts = {
            "silence": silence,
            "idle_timeout": idle_timeout,
            "bytes_received": attempt.bytes_received,
        }
        _events.warn_stalled(**self._of(attempt), **facts)

    def ended(
        self, attempt: Attempt, error: BaseException | None, pace: Pace, *, complete: bool
    ) -> None:
        """A streamed response has ended."""
        if self._emitter.wants(StreamEnded):
            self._emitter.emit(
                StreamEnded(
                    **self._of(attempt),
                    bytes_received=attempt.bytes_received,
                    events_received=pace.events_received,
                    elapsed=attempt.call.boot() - attempt.since,
                    first_byte=pace.first_byte,
                    first_event=pace.first_event,
                    longest_gap=pace.longest_gap,
                    complete=complete,
                    error=None if error is None else type(error).__name__,
                )
            )

    def _of(self, attempt: Attempt) -> dict[str, Any]:
        return {"call_id": attempt.call.id, "origin": self.origin, "attempt": attempt.number}

    def _of_sending(self, attempt: Attempt) -> dict[str, Any]:
        names = ("reused", "idle_for", "bytes_sent", "bytes_received")
        return {"method": self._method, **{name: getattr(attempt, name) for name in names}}
