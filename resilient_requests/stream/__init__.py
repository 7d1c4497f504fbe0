"""One response as it arrives: framing, coding, clocks, events, and the loops of requests.

`iter_bytes` and `iter_events` read any streamed response. `ResilientResponse` is the response that
the adapter returns; requests' own loops over it are prompt, and report each cut.
"""

from resilient_requests.stream._clocks import HEARTBEAT, Heartbeat
from resilient_requests.stream._iterators import (
    EVENT_STREAM,
    NDJSON,
    ByteStream,
    Decoder,
    EventStream,
    iter_bytes,
    iter_events,
    media_type,
)
from resilient_requests.stream._reader import Reader
from resilient_requests.stream._response import ResilientResponse, resilient
from resilient_requests.stream._sse import (
    MAX_EVENT_BYTES,
    EventTooLarge,
    ServerSentEvent,
    SSEDecoder,
)

__all__ = [
    "EVENT_STREAM",
    "HEARTBEAT",
    "MAX_EVENT_BYTES",
    "NDJSON",
    "ByteStream",
    "Decoder",
    "EventStream",
    "EventTooLarge",
    "Heartbeat",
    "Reader",
    "ResilientResponse",
    "SSEDecoder",
    "ServerSentEvent",
    "iter_bytes",
    "iter_events",
    "media_type",
    "resilient",
]
