"""Chat calls over any provider's wire."""

from resilient_requests.chat._complete import complete_chat
from resilient_requests.chat._open import stream_chat
from resilient_requests.chat._stream import ChatStream
from resilient_requests.chat._text import TextStream
from resilient_requests.chat._types import ChatCompletion, ChatDelta, ToolCall, Usage

__all__ = [
    "ChatCompletion",
    "ChatDelta",
    "ChatStream",
    "TextStream",
    "ToolCall",
    "Usage",
    "complete_chat",
    "stream_chat",
]
