"""A program with types that uses every public name: mypy and pyright read it as its author would.

It is checked and not run; ``nox -s types`` does that, and holds the examples to the same.
"""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Any, cast

import urllib3

from resilient_requests import (
    HEARTBEAT,
    AdapterStats,
    AttemptFailed,
    AttemptRecord,
    AttemptStarted,
    AttemptSucceeded,
    ByteStream,
    Cancelled,
    CancelScope,
    ChatAPIError,
    ChatCompletion,
    ChatDelta,
    ChatStream,
    ConnectionOpened,
    ConnectionRecycled,
    DeadlineExceeded,
    Event,
    EventStream,
    Heartbeat,
    InFlight,
    KeepAlivePolicy,
    OriginStats,
    PoolRotated,
    ResilientAdapter,
    ResilientResponse,
    RetryBudget,
    RetryDenied,
    RetryPolicy,
    RetryScheduled,
    Rotation,
    ServerSentEvent,
    StreamBroken,
    StreamEnded,
    StreamError,
    StreamIdle,
    StreamProtocolError,
    StreamTruncated,
    TCPKeepAlive,
    TCPView,
    TextStream,
    Timeouts,
    ToolCall,
    Usage,
    complete_chat,
    dump,
    dump_on,
    install,
    is_transient,
    iter_bytes,
    iter_events,
    stream_chat,
    uninstall,
)
from resilient_requests.web import EventRelay

if TYPE_CHECKING:
    from collections.abc import Iterator

    import requests

URL = "https://api.example.com/v1/chat/completions"


def show(*_: object) -> None:
    """Take anything."""


def observe(event: Event) -> None:
    """Tell each kind of event apart."""
    if isinstance(event, AttemptStarted | AttemptSucceeded):
        show(event.call_id, event.origin, event.attempt)
    elif isinstance(event, AttemptFailed | RetryScheduled | RetryDenied):
        show(event.call_id, event.attempt)
    elif isinstance(event, ConnectionOpened):
        show(event.family, event.tries, event.connect + event.handshake)
    elif isinstance(event, ConnectionRecycled | PoolRotated):
        show(event.reason)
    elif isinstance(event, StreamEnded):
        show(event.bytes_received, event.events_received)


def adapter() -> ResilientAdapter:
    """Set everything that can be set."""
    made = ResilientAdapter(
        20,
        20,
        RetryPolicy(max_retries=3, statuses={429, 503}, budget=RetryBudget(capacity=20)),
        True,
        keepalive=KeepAlivePolicy(expiry=4, max_age=600, adaptive=False),
        timeouts=Timeouts(connect=3, total=60),
        idempotency_keys=True,
        tcp_keepalive=TCPKeepAlive(idle=30),
        observers=[observe],
    )
    made.max_retries = urllib3.Retry(3)
    made.max_retries = 3
    return made


def look(made: ResilientAdapter) -> None:
    """Ask for everything that can be asked."""
    stats: AdapterStats = made.stats()
    origins: dict[str, OriginStats] = dict(stats.origins)
    rotation: Rotation = made.rotate(made.generation)
    calls: tuple[InFlight, ...] = made.in_flight()
    views: list[TCPView | None] = [each.tcp for each in calls]
    show(origins, rotation is Rotation.ROTATED, views, made.warm(URL, 2), made.retry_policy)
    dump(sys.stderr)
    dump_on(signal.SIGTERM)
    made.close()
    made.shutdown(grace=1.0)


def attempts_of(response: requests.Response) -> tuple[AttemptRecord, ...]:
    """Say that a response is one of ours."""
    return cast("ResilientResponse", response).attempts


def events_of(session: requests.Session) -> Iterator[ServerSentEvent]:
    """Read a stream of events with a heartbeat."""
    response = session.get(URL, stream=True)
    with iter_events(response, idle_timeout=30, heartbeat=5) as events:
        stream: EventStream[ServerSentEvent | Heartbeat] = events
        for event in stream:
            if event is not HEARTBEAT:
                yield event


def bytes_of(session: requests.Session) -> bytes:
    """Read bytes as they arrive."""
    stream: ByteStream[bytes] = iter_bytes(session.get(URL, stream=True))
    with stream:
        return b"".join(stream)


def chat(session: requests.Session) -> ChatCompletion | None:
    """Stream an answer, and tell how it can end."""
    messages = [{"role": "user", "content": "hi"}]
    try:
        with stream_chat(session, URL, model="m", messages=messages) as stream:
            answer: ChatStream[ChatDelta] = stream
            for delta in answer:
                calls: tuple[ToolCall, ...] = delta.tool_calls
                usage: Usage | None = delta.usage
                show(delta.content, calls, usage)
            return answer.completion
    except StreamIdle as error:
        show(error.idle_timeout, error.clock)
    except (StreamBroken, StreamTruncated, StreamProtocolError) as error:
        show(error.partial)
    except ChatAPIError as error:
        show(error.type, error.code, error.transient)
    return None


def text(session: requests.Session) -> str:
    """Stream the text alone."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": "hi"}]
    with stream_chat(session, URL, model="m", messages=messages) as stream:
        parts: TextStream = stream.iter_text()
        return "".join(parts)


def whole(session: requests.Session) -> str:
    """Ask for a whole answer within ten seconds."""
    scope = CancelScope(timeout=10)
    try:
        with scope:
            answer = complete_chat(session, URL, model="m", messages=[], first_token_timeout=5)
            return answer.content
    except (Cancelled, DeadlineExceeded):
        return str(scope.is_cancelled)
    except StreamError as error:
        return str(is_transient(error))


def relay(session: requests.Session) -> EventRelay:
    """Pass an answer on to a browser."""
    return EventRelay(stream_chat(session, URL, model="m", messages=[], heartbeat=5))


def everywhere() -> None:
    """Reach the sessions of other packages."""
    install(keepalive=4)
    uninstall()
