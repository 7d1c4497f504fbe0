"""OpenTelemetry: attempts as span events, the resend count, and metrics; needs extra ``otel``."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from opentelemetry import metrics, trace

from resilient_requests.call import (
    AttemptFailed,
    AttemptStarted,
    AttemptSucceeded,
    ConnectionOpened,
    ConnectionRecycled,
    RetryDenied,
    RetryScheduled,
    StreamEnded,
    current_attempt,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.metrics import MeterProvider
    from opentelemetry.util.types import AttributeValue

__all__ = ["OpenTelemetryObserver"]

_NAME = "resilient_requests"
_RESEND_COUNT = "http.request.resend_count"
# A span of these kinds describes the request that this process serves: a count on it would be read
# as that request's.
_FOREIGN = (trace.SpanKind.SERVER, trace.SpanKind.CONSUMER)
_SPAN_EVENTS = {
    AttemptSucceeded: "attempt",
    AttemptFailed: "attempt",
    RetryDenied: "retry_denied",
    StreamEnded: "stream_ended",
}
# Fields with a name in the semantic conventions; the others get a name under ours.
_CONVENTIONAL = {
    "method": "http.request.method",
    "status": "http.response.status_code",
    "error": "error.type",
}


class OpenTelemetryObserver:
    """An observer for ``ResilientAdapter(observers=[...])``; opens no span; used from any thread.

    Each attempt, each denied retry and each end of a stream becomes an event of the current span.
    ``http.request.resend_count`` is set on that span after a retry. If urllib3 is instrumented,
    pass `request_hook` to the instrumentation: the count then goes to the span of each attempt, and
    the instrumentation measures durations.

    Metrics: ``http.client.request.duration`` in seconds per attempt,
    ``resilient_requests.retries``, ``resilient_requests.retries.denied``,
    ``resilient_requests.connections.opened``, ``resilient_requests.connections.recycled`` and
    ``resilient_requests.stream.duration`` in seconds. ``meter_provider``: None is the global one. A
    pickled observer uses the global one.
    """

    def __init__(self, *, meter_provider: MeterProvider | None = None) -> None:
        meter = metrics.get_meter(_NAME, meter_provider=meter_provider)
        self._has_hook = False
        self._duration = meter.create_histogram(
            "http.client.request.duration",
            unit="s",
            description="Duration of HTTP client requests, per attempt",
        )
        self._streaming = meter.create_histogram(
            f"{_NAME}.stream.duration", unit="s", description="Duration of streamed responses"
        )
        self._retries = meter.create_counter(
            f"{_NAME}.retries", unit="{retry}", description="Attempts repeated"
        )
        self._denied = meter.create_counter(
            f"{_NAME}.retries.denied", unit="{retry}", description="Failed attempts not repeated"
        )
        self._opened = meter.create_counter(
            f"{_NAME}.connections.opened", unit="{connection}", description="Connections dialled"
        )
        self._recycled = meter.create_counter(
            f"{_NAME}.connections.recycled",
            unit="{connection}",
            description="Idle connections closed, not reused",
        )
        self._meters: dict[type, Callable[[Any, dict[str, AttributeValue]], None]] = {
            AttemptSucceeded: self._time_attempt,
            AttemptFailed: self._time_attempt,
            RetryScheduled: self._count_retry,
            RetryDenied: lambda event, where: self._denied.add(
                1, {**where, "reason": event.reason}
            ),
            ConnectionOpened: lambda _, where: self._opened.add(1, where),
            ConnectionRecycled: lambda event, where: self._recycled.add(
                1, {**where, "reason": event.reason}
            ),
            StreamEnded: lambda event, where: self._streaming.record(
                event.elapsed, {**where, **_of_error(event)}
            ),
        }

    def __reduce__(self) -> tuple[type[OpenTelemetryObserver], tuple[()]]:
        return type(self), ()

    def __call__(self, event: Any) -> None:
        """Take one event."""
        kind = type(event)
        span = trace.get_current_span()
        if span.is_recording():
            if kind in _SPAN_EVENTS:
                span.add_event(f"{_NAME}.{_SPAN_EVENTS[kind]}", _attributes(event))
            is_ours = not self._has_hook and getattr(span, "kind", None) not in _FOREIGN
            if kind is AttemptStarted and event.attempt > 1 and is_ours:
                span.set_attribute(_RESEND_COUNT, event.attempt - 1)
        if (meter := self._meters.get(kind)) is not None:
            meter(event, _place(event.origin))

    def request_hook(self, span: trace.Span, *_: object) -> None:
        """Set the resend count on an attempt's span; a hook for ``URLLib3Instrumentor``."""
        self._has_hook = True
        attempt = current_attempt.get()
        if attempt is not None and attempt.number > 1 and span.is_recording():
            span.set_attribute(_RESEND_COUNT, attempt.number - 1)

    def _time_attempt(
        self, event: AttemptSucceeded | AttemptFailed, where: dict[str, AttributeValue]
    ) -> None:
        if not self._has_hook:
            status = (
                {"http.response.status_code": event.status}
                if isinstance(event, AttemptSucceeded)
                else {}
            )
            attributes = {
                **where,
                "http.request.method": event.method,
                **status,
                **_of_error(event),
            }
            self._duration.record(event.elapsed, attributes)

    def _count_retry(self, event: RetryScheduled, where: dict[str, AttributeValue]) -> None:
        self._retries.add(
            1,
            {
                **where,
                "error.type": event.reason.removeprefix("status "),
                f"{_NAME}.reused": event.reused,
            },
        )


def _of_error(event: Any) -> dict[str, AttributeValue]:
    error = getattr(event, "error", None)
    return {} if error is None else {"error.type": error}


def _attributes(event: Any) -> dict[str, AttributeValue]:
    values = {
        _CONVENTIONAL.get(name, f"{_NAME}.{name}"): value for name, value in vars(event).items()
    }
    return {name: value for name, value in values.items() if value is not None}


@functools.lru_cache(maxsize=256)
def _place(origin: str) -> dict[str, AttributeValue]:
    """Return the conventional attributes of an origin; the dict is cached, do not change it."""
    parts = urlsplit(origin)
    place: dict[str, AttributeValue] = {
        "server.address": parts.hostname or origin,
        "url.scheme": parts.scheme,
    }
    return place if parts.port is None else {**place, "server.port": parts.port}
