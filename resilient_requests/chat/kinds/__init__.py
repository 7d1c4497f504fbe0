"""The kinds of objects that several wires share; each is read here, once for all dialects."""

from resilient_requests.chat.kinds._calls import Calls
from resilient_requests.chat.kinds._errors import (
    BadChunkError,
    ProviderError,
    error_of,
    gave_up,
    has_given_up,
    is_transient,
    likely_error,
    reported_error,
    words,
)
from resilient_requests.chat.kinds._items import Added, Items
from resilient_requests.chat.kinds._json import is_json, loads
from resilient_requests.chat.kinds._members import (
    Tokens,
    as_json,
    count,
    items,
    position,
    reason,
    table,
    text,
)
from resilient_requests.chat.kinds._message import Message
from resilient_requests.chat.kinds._parts import (
    Said,
    add_part,
    grow,
    grow_at,
    grow_text,
    joined,
    said,
    whole,
)

__all__ = [
    "Added",
    "BadChunkError",
    "Calls",
    "Items",
    "Message",
    "ProviderError",
    "Said",
    "Tokens",
    "add_part",
    "as_json",
    "count",
    "error_of",
    "gave_up",
    "grow",
    "grow_at",
    "grow_text",
    "has_given_up",
    "is_json",
    "is_transient",
    "items",
    "joined",
    "likely_error",
    "loads",
    "position",
    "reason",
    "reported_error",
    "said",
    "table",
    "text",
    "whole",
    "words",
]
