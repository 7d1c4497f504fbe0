"""Chat calls over any provider's wire."""

from resilient_requests.chat._api import complete_chat, stream_chat
from resilient_requests.chat._stream import ChatStream, TextStream
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
