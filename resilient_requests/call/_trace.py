"""The trace of one call, told as events: its attempts, their consequences, and its stream."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

from resilient_requests import _checks
from resilient_requests.call import _causes, _log
from resilient_requests.call._events import (
    AttemptFailed,
    AttemptStarted,
    AttemptSucceeded,
    Event,
    RetryDenied,
    RetryScheduled,
    StreamEnded,
)

if TYPE_CHECKING:
    from resilient_requests.call._attempt import Attempt
    from resilient_requests.call._facts import AttemptRecord
    from resilient_requests.call._origin import Origin

__all__ = ["CallTrace", "Observer", "Observers"]

Observer: TypeAlias = Callable[[Any], object]
"""Takes one event. A user may accept some kinds only, and no type checker could follow that."""


class Observers:
    """Tells events to the observers of one adapter and to the log; immutable; for any thread."""

    def __init__(self, observers: Iterable[Observer] = ()) -> None:
        self.all: tuple[Observer, ...] = tuple(_checks.items("observers", observers))
        for observer in self.all:
            if not callable(observer):
                raise TypeError(f"observers must be callables, not {type(observer).__name__}")

    def wants(self, kind: type[Event]) -> bool:
        """Return True if an observer or the log would see an event of this kind; else skip it."""
        return bool(self.all) or _log.shows[kind]()

    def tell(self, event: Event) -> None:
        """Tell every observer, then the log. An observer that raises is logged and does no harm."""
        for observer in self.all:
            try:
                observer(event)
            except Exception:  # noqa: BLE001  # a faulty observer must not harm the call
                _log.log_failed_observer(event)
        _log.log_event(event)


class CallTrace:
    """Reports one call to observers and to the log; immutable.

    An event of an attempt or a stream is built only for a listener.
    """

    __slots__ = ("_hears_attempts", "_method", "_observers", "_origin")

    def __init__(self, observers: Observers, origin: Origin, method: str = "") -> None:
        self._observers = observers
        self._origin = origin
        self._method = method
        # Asked once: the three events of an attempt have one logger and one level.
        self._hears_attempts = observers.wants(AttemptStarted)

    @property
    def origin(self) -> str:
        """The origin of the request, not of a proxy that it goes through."""
        return str(self._origin)

    @property
    def wants_timings(self) -> bool:
        """True if an observer wants the timings of a body: these cost a clock reading per read."""
        return self._observers.wants(StreamEnded)

    @property
    def hears_stalls(self) -> bool:
        """True if the log would show the report of a silence while it lasts."""
        return _log.hears_stalls()

    def started(self, attempt: Attempt) -> None:
        """An attempt begins."""
        if self._hears_attempts:
            self._observers.tell(AttemptStarted(**self._of(attempt), method=self._method))

    def succeeded(self, attempt: Attempt, status: int) -> None:
        """An attempt brought a response."""
        if self._hears_attempts:
            facts = self._of_sending(attempt)
            self._observers.tell(
                AttemptSucceeded(**self._of(attempt), status=status, elapsed=attempt.age, **facts)
            )

    def failed(self, attempt: Attempt, error: BaseException, errno: int | None) -> None:
        """An attempt brought no response."""
        if self._hears_attempts:
            self._observers.tell(
                AttemptFailed(
                    **self._of(attempt),
                    phase=attempt.phase.value,
                    **self._of_sending(attempt),
                    error=_causes.describe(error, errno),
                    errno=errno,
                    elapsed=attempt.age,
                )
            )

    def scheduled(
        self, call_id: str, record: AttemptRecord, *, wait: float, reason: str, errno: int | None
    ) -> None:
        """Another attempt follows after ``wait`` seconds."""
        self._observers.tell(
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
        """No other attempt follows, for ``reason``."""
        self._observers.tell(
            RetryDenied(call_id=call_id, origin=self.origin, attempt=number, reason=reason)
        )

    def stalled(self, attempt: Attempt, silence: float, idle_timeout: float) -> None:
        """No byte of a body came for ``silence`` seconds, a part of ``idle_timeout``."""
        _log.warn_stalled(
            **self._of(attempt),
            silence=silence,
            idle_timeout=idle_timeout,
            bytes_received=attempt.bytes_received,
        )

    def stream_ended(
        self, attempt: Attempt, error: BaseException | None, *, complete: bool
    ) -> None:
        """A streamed response has ended."""
        if self._observers.wants(StreamEnded):
            self._observers.tell(
                StreamEnded(
                    **self._of(attempt),
                    bytes_received=attempt.bytes_received,
                    events_received=attempt.events_received,
                    elapsed=attempt.age,
                    first_byte=attempt.first_byte,
                    first_event=attempt.first_event,
                    longest_gap=attempt.longest_gap,
                    complete=complete,
                    error=None if error is None else _causes.name_of(error),
                )
            )

    def _of(self, attempt: Attempt) -> dict[str, Any]:
        return {"call_id": attempt.token.id, "origin": self.origin, "attempt": attempt.number}

    def _of_sending(self, attempt: Attempt) -> dict[str, Any]:
        names = ("reused", "idle_for", "bytes_sent", "bytes_received")
        return {"method": self._method, **{name: getattr(attempt, name) for name in names}}
