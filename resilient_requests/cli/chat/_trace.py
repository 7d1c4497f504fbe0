"""Prints what becomes of each attempt, as it happens."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, TextIO

from resilient_requests.call import (
    AttemptFailed,
    AttemptStarted,
    AttemptSucceeded,
    ConnectionOpened,
    RetryDenied,
    RetryScheduled,
    StreamEnded,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Trace"]


class Trace:
    """An observer; used by the one thread that asks. What is not a POST is none of its business."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._calls: set[str | None] = set()
        self._dialled: float | None = None  # seconds, of the attempt that is under way
        self._held: list[str] = []  # the columns of a line that waits for what follows from it
        self._on: dict[type, Callable[[Any], None]] = {
            AttemptStarted: self._started,
            ConnectionOpened: self._opened,
            AttemptFailed: self._failed,
            AttemptSucceeded: self._succeeded,
            StreamEnded: self._ended,
            RetryScheduled: self._scheduled,
            RetryDenied: self._denied,
        }

    def __call__(self, event: Any) -> None:
        """Take an event."""
        if isinstance(event, AttemptStarted) and event.method == "POST":
            self._calls.add(event.call_id)
        note = self._on.get(type(event))
        if note is not None and event.call_id in self._calls:
            note(event)

    def close(self) -> None:
        """Print what is held back."""
        if self._held:
            self._print("no replay" if self._held[0].startswith("stream") else "")

    def _started(self, _: AttemptStarted) -> None:
        self.close()
        self._dialled = None

    def _opened(self, event: ConnectionOpened) -> None:
        self._dialled = event.elapsed

    def _failed(self, event: AttemptFailed) -> None:
        name = (
            event.error
            if event.errno is None
            else errno.errorcode.get(event.errno, str(event.errno))
        )
        self._held = [
            f"attempt {event.attempt}",
            self._way(event),
            f"{name} in {event.phase} after {_s(event.elapsed)}",
        ]

    def _succeeded(self, event: AttemptSucceeded) -> None:
        status = f", status {event.status}" if event.status >= 400 else ""
        self._print(
            f"attempt {event.attempt}", self._way(event), f"headers {_ms(event.elapsed)}{status}"
        )

    def _ended(self, event: StreamEnded) -> None:
        if event.error is not None:
            received = f"{_counted(event.bytes_received, 'byte')}, {_counted(event.events_received, 'event')}"
            facts = f"{event.error} after {received}"
            self._held = [f"stream {event.attempt}", facts, f"after {_s(event.elapsed)}"]

    def _scheduled(self, event: RetryScheduled) -> None:
        if self._held and self._held[0].startswith("stream"):
            why = "nothing was shown, "
        else:
            why = "stale reuse, " if event.reused and not event.wait else ""
        self._print(f"replay: {why}{f'in {_s(event.wait)}' if event.wait else 'at once'}")

    def _denied(self, event: RetryDenied) -> None:
        self._print(f"no replay: {event.reason}")

    def _way(self, event: AttemptFailed | AttemptSucceeded) -> str:
        if event.reused:
            return f"reused, idle {_s(event.idle_for or 0.0)}"
        return "not connected" if self._dialled is None else f"fresh, {_ms(self._dialled)}"

    def _print(self, *columns: str) -> None:
        first, *rest = (*self._held, *columns)
        self._held = []
        print(
            "  ".join([f"{first:<9}", *(f"{each:<21}" for each in rest)]).rstrip(),
            file=self._out,
            flush=True,
        )


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _s(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 0.1 else f"{seconds:.3f} s"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.01 else f"{seconds * 1000:.1f} ms"
