"""Anthropic messages."""

from __future__ import annotations

import json
from typing import Any

from resilient_requests.chat._types import ChatDelta, ToolCall, Usage
from resilient_requests.chat.dialects._dialect import Dialect, Parser
from resilient_requests.chat.dialects._members import count, items, position, table, text

__all__ = ["ANTHROPIC"]


class _AnthropicParser(Parser):
    """Reads the events of a message; ``type`` in the data decides, since some gateways name the events otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self._usage: dict[str, Any] = {}
        self._calls: dict[int, int] = {}  # index of the content block -> number of the call

    def chunk(self, event: str, data: dict[str, Any]) -> list[ChatDelta]:
        kind = text(data.get("type")) or event
        if kind == "content_block_delta":
            return [self._delta(data)]
        if kind == "content_block_start":
            return [self._start(data)]
        if kind == "message_start":
            self._begin(table(data.get("message")))
        elif kind == "message_delta":
            return [
                self._finish(table(data.get("delta")).get("stop_reason"), data.get("usage"), data)
            ]
        elif kind == "message_stop":
            self.is_done = True
        elif kind != "content_block_stop":
            return []
        return [ChatDelta(raw=data)]

    def whole(self, data: dict[str, Any]) -> list[ChatDelta]:
        if not isinstance(data.get("content"), list):
            return super().whole(data)
        self._begin(data)
        blocks = [
            self._block(number, block, data) for number, block in enumerate(items(data["content"]))
        ]
        self.is_done = True
        return [*blocks, self._finish(data.get("stop_reason"), data.get("usage"), data)]

    def _begin(self, message: dict[str, Any]) -> None:
        self.id, self.model = text(message.get("id")) or None, text(message.get("model")) or None
        self._usage = table(message.get("usage"))

    def _finish(self, reason: object, usage: object, raw: dict[str, Any]) -> ChatDelta:
        if reason == "refusal":
            self.refused.add(0)
        # The last counts are cumulative, but need not repeat those of the start.
        self._usage = {**self._usage, **table(usage)}
        known = self._usage
        read, written = count(known.get("input_tokens")), count(known.get("output_tokens"))
        total = None if read is None or written is None else read + written
        return ChatDelta(
            finish_reason=text(reason) or None,
            usage=Usage(read, written, total, known) if known else None,
            raw=raw,
        )

    def _start(self, data: dict[str, Any]) -> ChatDelta:
        return self._block(
            position(data.get("index", 0), "content block"), table(data.get("content_block")), data
        )

    def _block(self, index: int, block: dict[str, Any], raw: dict[str, Any]) -> ChatDelta:
        if block.get("type") == "tool_use":
            number = self._calls.setdefault(index, len(self._calls))
            given = block.get("input")
            arguments = json.dumps(given) if given else ""
            call = ToolCall(
                number, text(block.get("id")) or None, text(block.get("name")) or None, arguments
            )
            return ChatDelta(tool_calls=(call,), raw=raw)
        return ChatDelta(text(block.get("text")), text(block.get("thinking")), raw=raw)

    def _delta(self, data: dict[str, Any]) -> ChatDelta:
        delta = table(data.get("delta"))
        index = position(data.get("index", 0), "content block")
        if delta.get("type") == "input_json_delta":
            # Tools that the provider runs itself have arguments too, but are no calls of the caller's.
            number = self._calls.get(index)
            if number is None:
                return ChatDelta(raw=data)
            return ChatDelta(
                tool_calls=(ToolCall(number, arguments=text(delta.get("partial_json"))),), raw=data
            )
        return ChatDelta(text(delta.get("text")), text(delta.get("thinking")), raw=data)


ANTHROPIC = Dialect(
    name="anthropic", parser=_AnthropicParser, headers={"anthropic-version": "2023-06-01"}
)
