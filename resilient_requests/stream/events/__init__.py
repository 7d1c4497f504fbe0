"""Server-sent events: told from other bodies, decoded, and iterated over."""

from resilient_requests.stream.events._sniff import Form, form_of, significant
from resilient_requests.stream.events._sse import (
    MAX_EVENT_BYTES,
    EventTooLarge,
    ServerSentEvent,
    SSEDecoder,
)
from resilient_requests.stream.events._stream import Decoder, EventStream, iter_events

__all__ = [
    "MAX_EVENT_BYTES",
    "Decoder",
    "EventStream",
    "EventTooLarge",
    "Form",
    "SSEDecoder",
    "ServerSentEvent",
    "form_of",
    "iter_events",
    "significant",
]
