"""What happens to calls and connections, as frozen events for observers and log lines for operators."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Any

from resilient_requests import _checks

__all__ = [
    "AttemptFailed",
    "AttemptStarted",
    "AttemptSucceeded",
    "ConnectionOpened",
    "ConnectionRecycled",
    "Emitter",
    "Event",
    "Observer",
    "PoolRotated",
    "RetryDenied",
    "RetryScheduled",
    "StreamEnded",
]

# A library must not print where the application has configured no logging.
_ROOT = logging.getLogger("resilient_requests")
_ROOT.addHandler(logging.NullHandler())


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something happened. ``call_id`` names the call within this process, ``origin`` is "scheme://host:port".

    ``origin`` is the request's, also through a proxy; a proxy that forwards is named where its connections are meant
    and not one call: when they are retired, or recycled without a call. ``call_id`` is None where no call is the
    cause (a rotation by hand). Durations are seconds. No event holds a path, a query, a header or a body.
    """

    call_id: str | None
    origin: str


@dataclass(frozen=True, kw_only=True)
class AttemptStarted(Event):
    """An attempt of a call begins; ``attempt`` counts from 1."""

    attempt: int
    method: str


@dataclass(frozen=True, kw_only=True)
class AttemptSucceeded(Event):
    """An attempt brought a response, whatever its ``status``."""

    attempt: int
    method: str
    status: int
    reused: bool
    idle_for: float | None
    bytes_sent: int
    bytes_received: int
    elapsed: float


@dataclass(frozen=True, kw_only=True)
class AttemptFailed(Event):
    """An attempt brought no response. ``errno`` is None where the system gave none (an end, a timeout)."""

    attempt: int
    method: str
    reused: bool
    idle_for: float | None
    phase: str
    bytes_sent: int
    bytes_received: int
    error: str
    errno: int | None
    elapsed: float


@dataclass(frozen=True, kw_only=True)
class RetryScheduled(Event):
    """``attempt`` failed and another will follow after ``wait`` seconds; comes before the wait."""

    attempt: int
    wait: float
    reason: str
    reused: bool
    idle_for: float | None
    phase: str
    errno: int | None


@dataclass(frozen=True, kw_only=True)
class RetryDenied(Event):
    """``attempt`` failed and none will follow; ``reason`` as ``AttemptRecord.stopped_by``."""

    attempt: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class ConnectionOpened(Event):
    """A connection was dialled, in ``elapsed`` seconds: name resolution and TCP took ``connect`` of them.

    ``handshake``: the rest, for TLS and for a proxy's CONNECT; ``tls``: the version, None without TLS.
    ``family``: "IPv4" or "IPv6", of the proxy where there is one; ``tries``: how many addresses of the name were
    tried, 1 where the first has answered in time. Both None where somebody else has dialled, as PySocks does.
    """

    attempt: int
    elapsed: float
    connect: float
    handshake: float
    tls: str | None
    family: str | None = None
    tries: int | None = None


@dataclass(frozen=True, kw_only=True)
class ConnectionRecycled(Event):
    """A pooled connection was closed instead of being used; ``reason`` says why."""

    reason: str
    idle_for: float | None


@dataclass(frozen=True, kw_only=True)
class PoolRotated(Event):
    """Connections were retired: those of ``origin``, or all where it is "*"; ``closed`` of them lay idle."""

    generation: int
    reason: str
    closed: int


@dataclass(frozen=True, kw_only=True)
class StreamEnded(Event):
    """A streamed response ended; ``error`` is the error's class, None where there was none.

    ``complete``: it was read to its end, not closed before. ``first_byte`` of the body and ``first_event`` in seconds
    since the attempt began, None where there was none; ``longest_gap``: the longest wait for a byte, without the
    time that the consumer took.
    """

    attempt: int
    bytes_received: int
    events_received: int
    elapsed: float
    first_byte: float | None
    first_event: float | None
    longest_gap: float
    complete: bool
    error: str | None


Observer = Callable[[Any], object]

# Level and constant message per event; a recovered failure is one WARNING, the rest is detail.
_LINES: dict[type[Event], tuple[str, int, str, tuple[str, ...]]] = {
    RetryScheduled: (
        "retry",
        logging.WARNING,
        "attempt %s at %s failed in phase %s (%s, reused=%s, idle_for=%s): next in %.3f s",
        ("attempt", "origin", "phase", "reason", "reused", "idle_for", "wait"),
    ),
    RetryDenied: (
        "retry",
        logging.INFO,
        "attempt %s at %s failed and is not repeated: %s",
        ("attempt", "origin", "reason"),
    ),
    AttemptStarted: ("attempt", logging.DEBUG, "attempt %s at %s starts", ("attempt", "origin")),
    AttemptSucceeded: (
        "attempt",
        logging.DEBUG,
        "attempt %s at %s brought status %s (reused=%s, idle_for=%s)",
        ("attempt", "origin", "status", "reused", "idle_for"),
    ),
    AttemptFailed: (
        "attempt",
        logging.DEBUG,
        "attempt %s at %s failed in phase %s: %s",
        ("attempt", "origin", "phase", "error"),
    ),
    ConnectionOpened: (
        "pool",
        logging.DEBUG,
        "connection to %s opened in %.3f s (connect %.3f s, handshake %.3f s, %s)",
        ("origin", "elapsed", "connect", "handshake", "tls"),
    ),
    ConnectionRecycled: (
        "pool",
        logging.DEBUG,
        "connection to %s recycled: %s (idle_for=%s)",
        ("origin", "reason", "idle_for"),
    ),
    PoolRotated: (
        "pool",
        logging.INFO,
        "connections of %s retired: %s (generation %s)",
        ("origin", "reason", "generation"),
    ),
    StreamEnded: (
        "stream",
        logging.DEBUG,
        "stream from %s ended after %s bytes (complete=%s, longest_gap=%.3f): %s",
        ("origin", "bytes_received", "complete", "longest_gap", "error"),
    ),
}
_LOGGERS = {kind: _ROOT.getChild(line[0]) for kind, line in _LINES.items()}
_STREAM = _LOGGERS[StreamEnded]
# Asked for several times per call: one look-up, and none of an attribute.
_ENABLED = {kind: (_LOGGERS[kind].isEnabledFor, line[1]) for kind, line in _LINES.items()}


class Emitter:
    """Hands events to the observers of one adapter and to the log; immutable, used from any thread."""

    def __init__(self, observers: Iterable[Observer] = ()) -> None:
        self.observers: tuple[Observer, ...] = tuple(_checks.items("observers", observers))
        for observer in self.observers:
            if not callable(observer):
                raise TypeError(f"observers must be callables, not {type(observer).__name__}")

    def wants(self, kind: type[Event]) -> bool:
        """Return whether anybody would see an event of this kind: else it need not be built."""
        if self.observers:
            return True
        is_enabled_for, level = _ENABLED[kind]
        return is_enabled_for(level)

    def emit(self, event: Event) -> None:
        """Tell every observer, then the log. An observer that raises is logged and harms nobody."""
        for observer in self.observers:
            try:
                observer(event)
            except Exception:  # noqa: BLE001  # whatever an observer does wrong must not harm the call
                _ROOT.exception("an observer failed on %s", type(event).__name__)
        _log(event)


def warn_bad_environment(name: str, default: object) -> None:
    """Log that an environment variable is unusable; its value may be a secret in the wrong place, so not that."""
    _ROOT.warning(
        "%s has an unusable value: using %s", name, default, extra={f"{_ROOT.name}.variable": name}
    )


def warn_certificates(error: OSError) -> None:
    """Log that the files of a TLS context cannot be loaded, and that the one made of them before is used on."""
    message = "the CA bundle or client certificate cannot be loaded: using what was loaded before"
    _ROOT.warning(message, extra={f"{_ROOT.name}.error": str(error)})


def hears_stalls() -> bool:
    """Return whether anybody would see that a stream stalls."""
    return _STREAM.isEnabledFor(logging.WARNING)


def warn_stalled(**values: Any) -> None:
    """Log that a stream has been silent for a part of its limit; it may yet go on, so this is no event."""
    message = "stream stalled: no byte from %s for %.3f s, limit %.3f s"
    arguments = (values["origin"], values["silence"], values["idle_timeout"])
    _STREAM.warning(message, *arguments, extra=_extra(values))


def _log(event: Event) -> None:
    kind = type(event)
    _, level, message, arguments = _LINES[kind]
    logger = _LOGGERS[kind]
    if logger.isEnabledFor(level):
        values = {field.name: getattr(event, field.name) for field in fields(event)}
        shown = [_rounded(values[key]) for key in arguments]
        logger.log(level, message, *shown, extra=_extra(values))


def _rounded(value: Any) -> Any:
    # %.3f would do it, but for a value that may be None.
    return round(value, 3) if isinstance(value, float) else value


def _extra(values: dict[str, Any]) -> dict[str, Any]:
    return {f"{_ROOT.name}.{key}": value for key, value in values.items()}
