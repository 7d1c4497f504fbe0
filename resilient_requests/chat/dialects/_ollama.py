"""Ollama's own API: one JSON object per line."""

from __future__ import annotations

from typing import Any

from resilient_requests.chat._types import ChatDelta, ToolCall, Usage
from resilient_requests.chat.dialects._dialect import Dialect, Parser
from resilient_requests.chat.dialects._members import as_json, count, items, position, table, text

__all__ = ["OLLAMA"]


class _OllamaParser(Parser):
    """Reads the lines of ``/api/chat`` and ``/api/generate``."""

    def __init__(self) -> None:
        super().__init__()
        self._calls = 0

    def chunk(self, event: str, data: dict[str, Any]) -> list[ChatDelta]:  # noqa: ARG002  # lines have no names
        self.model = text(data.get("model")) or self.model
        message = table(data.get("message"))
        self.is_done = data.get("done") is True
        return [
            ChatDelta(
                text(message.get("content")) or text(data.get("response")),
                text(message.get("thinking")) or text(data.get("thinking")),
                tuple(
                    self._call(table(each.get("function")))
                    for each in items(message.get("tool_calls"))
                ),
                (text(data.get("done_reason")) or "stop") if self.is_done else None,
                _usage(data) if self.is_done else None,
                raw=data,
            )
        ]

    def whole(self, data: dict[str, Any]) -> list[ChatDelta]:
        if "done" not in data:
            return super().whole(data)
        return self.chunk("message", data)

    def _call(self, function: dict[str, Any]) -> ToolCall:
        number = position(self._calls, "tool call")
        self._calls += 1
        arguments = "{}" if (given := function.get("arguments")) is None else as_json(given)
        return ToolCall(number, None, text(function.get("name")) or None, arguments)


def _usage(data: dict[str, Any]) -> Usage | None:
    read, written = count(data.get("prompt_eval_count")), count(data.get("eval_count"))
    if read is None and written is None:
        return None
    raw = {name: value for name, value in data.items() if name.endswith(("_count", "_duration"))}
    return Usage(read, written, None if read is None or written is None else read + written, raw)


OLLAMA = Dialect(name="ollama", parser=_OllamaParser, is_ndjson=True)
