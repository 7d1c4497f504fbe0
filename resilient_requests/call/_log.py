"""Log lines for operators, without secrets."""

from __future__ import annotations

import logging
from dataclasses import fields
from functools import partial
from typing import Any

from resilient_requests.call._events import (
    AttemptFailed,
    AttemptStarted,
    AttemptSucceeded,
    ConnectionOpened,
    ConnectionRecycled,
    Event,
    PoolRotated,
    RetryDenied,
    RetryScheduled,
    StreamEnded,
)

__all__ = [
    "hears_stalls",
    "log_event",
    "log_failed_observer",
    "shows",
    "warn_bad_environment",
    "warn_certificates",
    "warn_stalled",
]

# logging prints warnings to stderr if no handler is configured; a library must not do that.
_ROOT = logging.getLogger("resilient_requests")
_ROOT.addHandler(logging.NullHandler())

# Logger, level and constant message per event. A failure that a retry mends is one WARNING.
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
# Each call asks several times, so these are no functions of Python.
shows = {kind: partial(_LOGGERS[kind].isEnabledFor, line[1]) for kind, line in _LINES.items()}
"""Tells for each kind of event if the log shows it, as it is configured now."""
hears_stalls = partial(_STREAM.isEnabledFor, logging.WARNING)
"""Tells if the log shows that a stream stalls, as it is configured now."""


def log_event(event: Event) -> None:
    """Write an event to the log, if its level is enabled."""
    kind = type(event)
    _, level, message, arguments = _LINES[kind]
    logger = _LOGGERS[kind]
    if logger.isEnabledFor(level):
        values = {field.name: getattr(event, field.name) for field in fields(event)}
        shown = [_rounded(values[key]) for key in arguments]
        logger.log(level, message, *shown, extra=_extra(values))


def log_failed_observer(event: Event) -> None:
    """Log, with its traceback, that an observer has raised."""
    _ROOT.exception("an observer failed on %s", type(event).__name__)


def warn_bad_environment(name: str, default: object) -> None:
    """Log that an environment variable is unusable, without its value, which may be a secret."""
    _ROOT.warning(
        "%s has an unusable value: using %s", name, default, extra={f"{_ROOT.name}.variable": name}
    )


def warn_certificates(error: OSError) -> None:
    """Log that the files of a TLS context cannot be loaded.

    The context that was made of them before stays in use.
    """
    message = "the CA bundle or client certificate cannot be loaded: using what was loaded before"
    _ROOT.warning(message, extra={f"{_ROOT.name}.error": str(error)})


def warn_stalled(**values: Any) -> None:
    """Log that a stream has been silent for a part of its limit.

    The stream may still go on, so this is a line in the log and no event.
    """
    message = "stream stalled: no byte from %s for %.3f s, limit %.3f s"
    arguments = (values["origin"], values["silence"], values["idle_timeout"])
    _STREAM.warning(message, *arguments, extra=_extra(values))


def _rounded(value: Any) -> Any:
    # Not %.3f in the message: the value may be None.
    return round(value, 3) if isinstance(value, float) else value


def _extra(values: dict[str, Any]) -> dict[str, Any]:
    # With a prefix: logging raises KeyError for an extra with the name of a LogRecord's field.
    return {f"{_ROOT.name}.{key}": value for key, value in values.items()}
