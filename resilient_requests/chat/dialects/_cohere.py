"""Cohere chat, the second version of its API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resilient_requests.chat._types import ChatDelta, ToolCall
from resilient_requests.chat.dialects._dialect import Dialect, Parser
from resilient_requests.chat.kinds import (
    Message,
    Tokens,
    as_json,
    count,
    error_of,
    items,
    reason,
    table,
    text,
)

if TYPE_CHECKING:
    from resilient_requests.chat._types import ChatCompletion, Usage

__all__ = ["COHERE"]

_SILENT = frozenset({"message-start", "content-end", "tool-call-end", "citation-end", "debug"})
_TALKING = frozenset(
    {
        "content-start",
        "content-delta",
        "tool-plan-delta",
        "tool-call-start",
        "tool-call-delta",
        "citation-start",
    }
)


class _CohereParser(Parser):
    """Reads the events of a message; each holds a piece of it, nested as in the whole message."""

    tokens = Tokens(("input_tokens",), ("output_tokens",))

    def __init__(self) -> None:
        super().__init__()
        self._message = Message()
        self._kinds: dict[int | None, str] = {}  # the types of parts, by their indices

    def chunk(self, event: str, data: dict[str, Any]) -> list[ChatDelta] | None:
        kind, delta = text(data.get("type")) or event, table(data.get("delta"))
        self.begin(data)
        if kind in _TALKING:
            return [self._take(table(delta.get("message")), data.get("index"), data)]
        if kind == "message-end":
            self.is_done = True
            return [self._finish(delta, data)]
        return [ChatDelta(raw=data)] if kind in _SILENT else None

    def whole(self, data: dict[str, Any]) -> list[ChatDelta] | None:
        message = data.get("message")
        if not isinstance(message, dict):
            return None
        self.begin(data)
        self.is_done = True
        return [self._take(message, None, data), self._finish(data, data)]

    def message(self, index: int, completion: ChatCompletion) -> Any:  # noqa: ARG002
        message = self._message.built(completion.tool_calls)
        return {name: each for name, each in message.items() if each or name == "role"}

    def _take(self, message: dict[str, Any], index: object, raw: dict[str, Any]) -> ChatDelta:
        content = message.get("content")
        if isinstance(content, dict):  # one part; only its start names its type
            part = count(index)
            kind = self._kinds[part] = text(content.get("type")) or self._kinds.get(part, "text")
            content = [{**content, "type": kind}]
        spoken = self._message.take_content(content)
        plan = text(message.get("tool_plan"))
        for name in ("tool_plan", "citations"):
            if value := message.get(name):
                self._message.take_member(name, [value] if isinstance(value, dict) else value)
        self.other_output += bool(message.get("citations") or spoken.others)
        calls = tuple(self._call(each, index) for each in items(message.get("tool_calls")))
        return ChatDelta(spoken.content, plan + spoken.reasoning, calls, raw=raw)

    def _call(self, call: dict[str, Any], index: object) -> ToolCall:
        function = table(call.get("function"))
        return self._message.calls.fragment(
            index,
            text(call.get("id")) or None,
            text(function.get("name")) or None,
            as_json(function.get("arguments")),
        )

    def _finish(self, ending: dict[str, Any], raw: dict[str, Any]) -> ChatDelta:
        if ending.get("error"):
            raise error_of(ending["error"])
        return ChatDelta(
            finish_reason=reason(ending.get("finish_reason")),
            usage=self._tokens(table(ending.get("usage"))),
            raw=raw,
        )

    def _tokens(self, usage: dict[str, Any]) -> Usage | None:
        """Return the tokens used, or the billed ones where only those are given."""
        return self.usage(usage.get("tokens")) or self.usage(usage.get("billed_units"))


COHERE = Dialect(name="cohere", parser=_CohereParser)
