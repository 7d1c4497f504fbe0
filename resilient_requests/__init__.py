"""Calls through bad networks to slow streaming APIs: mount one adapter on a requests.Session."""

from resilient_requests._adapter import ResilientAdapter
from resilient_requests.call._attempt import AttemptRecord
from resilient_requests.call._cancel import CancelScope
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
from resilient_requests.call._timeouts import TCPKeepAlive, Timeouts
from resilient_requests.chat import (
    ChatCompletion,
    ChatDelta,
    ChatStream,
    TextStream,
    ToolCall,
    Usage,
    complete_chat,
    stream_chat,
)
from resilient_requests.exceptions import (
    Cancelled,
    ChatAPIError,
    DeadlineExceeded,
    StreamBroken,
    StreamError,
    StreamIdle,
    StreamProtocolError,
    StreamTruncated,
)
from resilient_requests.retry._budget import RetryBudget
from resilient_requests.retry._failures import is_transient
from resilient_requests.retry._retry import RetryPolicy
from resilient_requests.stream._response import ResilientResponse
from resilient_requests.stream._sse import ServerSentEvent
from resilient_requests.stream._stream import (
    HEARTBEAT,
    ByteStream,
    EventStream,
    Heartbeat,
    iter_bytes,
    iter_events,
)
from resilient_requests.transport._keepalive import KeepAlivePolicy
from resilient_requests.transport._register import Rotation
from resilient_requests.transport._stats import AdapterStats, OriginStats

__version__ = "0.1.0"

__all__ = [
    "HEARTBEAT",
    "AdapterStats",
    "AttemptFailed",
    "AttemptRecord",
    "AttemptStarted",
    "AttemptSucceeded",
    "ByteStream",
    "CancelScope",
    "Cancelled",
    "ChatAPIError",
    "ChatCompletion",
    "ChatDelta",
    "ChatStream",
    "ConnectionOpened",
    "ConnectionRecycled",
    "DeadlineExceeded",
    "Event",
    "EventStream",
    "Heartbeat",
    "KeepAlivePolicy",
    "OriginStats",
    "PoolRotated",
    "ResilientAdapter",
    "ResilientResponse",
    "RetryBudget",
    "RetryDenied",
    "RetryPolicy",
    "RetryScheduled",
    "Rotation",
    "ServerSentEvent",
    "StreamBroken",
    "StreamEnded",
    "StreamError",
    "StreamIdle",
    "StreamProtocolError",
    "StreamTruncated",
    "TCPKeepAlive",
    "TextStream",
    "Timeouts",
    "ToolCall",
    "Usage",
    "complete_chat",
    "is_transient",
    "iter_bytes",
    "iter_events",
    "stream_chat",
]
