"""OpenAI responses."""

from __future__ import annotations

from typing import Any

from resilient_requests.chat._dialect import Dialect, Parser
from resilient_requests.chat._faults import error_of, items, position, table, text
from resilient_requests.chat._openai import usage_of
from resilient_requests.chat._types import ChatDelta, ToolCall

__all__ = ["OPENAI_RESPONSES"]

_REFUSAL = "response.refusal.delta"
_TEXT = ("response.output_text.delta", _REFUSAL)
_REASONING = ("response.reasoning_text.delta", "response.reasoning_summary_text.delta")
_OPENING = ("response.created", "response.queued", "response.in_progress")
_CLOSING = ("response.completed", "response.incomplete", "response.failed")


class _ResponsesParser(Parser):
    """Reads the events of a response; the event's name equals ``type`` in the data."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: dict[int, int] = {}  # output index -> number of the call
        self._begun: set[int] = set()  # calls that some of their arguments have come of
        self._has_output = False

    def chunk(self, event: str, data: dict[str, Any]) -> list[ChatDelta]:
        kind = text(data.get("type")) or event
        if kind in _TEXT or kind in _REASONING:
            return [self._text(kind, text(data.get("delta")), data)]
        if kind.startswith("response.function_call_arguments."):
            return [self._arguments(data)]
        if kind in ("response.output_item.added", "response.output_item.done"):
            return [self._item(table(data.get("item")), data)]
        if kind in _CLOSING:
            return self._close(table(data.get("response")), data, kind.removeprefix("response."))
        if kind in _OPENING:
            self._begin(table(data.get("response")))
            return [ChatDelta(raw=data)]
        return []

    def whole(self, data: dict[str, Any]) -> list[ChatDelta]:
        if not isinstance(data.get("output"), list):
            return super().whole(data)
        return self._close(data, data)

    def _text(self, kind: str, added: str, raw: dict[str, Any]) -> ChatDelta:
        if kind == _REFUSAL:
            self.refused.add(0)
        return self._shown(ChatDelta(reasoning=added, raw=raw) if kind in _REASONING else ChatDelta(added, raw=raw))

    def _shown(self, delta: ChatDelta) -> ChatDelta:
        self._has_output = True
        return delta

    def _begin(self, response: dict[str, Any]) -> None:
        self.id = text(response.get("id")) or self.id
        self.model = text(response.get("model")) or self.model

    def _arguments(self, data: dict[str, Any]) -> ChatDelta:
        index = position(data.get("output_index", 0), "output")
        number = self._calls.setdefault(index, len(self._calls))
        # ".done" repeats the whole, which counts only where there were no deltas.
        added = text(data.get("delta")) or (text(data.get("arguments")) if number not in self._begun else "")
        if not added:
            return ChatDelta(raw=data)
        self._begun.add(number)
        return self._shown(ChatDelta(tool_calls=(ToolCall(number, arguments=added),), raw=data))

    def _item(self, item: dict[str, Any], raw: dict[str, Any], index: object = None) -> ChatDelta:
        if item.get("type") != "function_call":
            return ChatDelta(raw=raw)
        place = position(raw.get("output_index", 0) if index is None else index, "output")
        is_new = place not in self._calls
        number = self._calls.setdefault(place, len(self._calls))
        arguments = text(item.get("arguments")) if number not in self._begun else ""
        if not is_new and not arguments:
            return ChatDelta(raw=raw)
        if arguments:
            self._begun.add(number)
        call = ToolCall(number, text(item.get("call_id")) or None, text(item.get("name")) or None, arguments)
        return self._shown(ChatDelta(tool_calls=(call,), raw=raw))

    def _close(self, response: dict[str, Any], raw: dict[str, Any], end: str = "completed") -> list[ChatDelta]:
        self._begin(response)
        status = text(response.get("status")) or end
        if response.get("error") or status == "failed":
            raise error_of(response.get("error") or {})
        output = [] if self._has_output else self._output(response, raw)
        reason = text(table(response.get("incomplete_details")).get("reason")) or status
        if reason == "content_filter":
            self.refused.add(0)
        self.is_done = True
        return [*output, ChatDelta(finish_reason=reason, usage=_usage(response), raw=raw)]

    def _output(self, response: dict[str, Any], raw: dict[str, Any]) -> list[ChatDelta]:
        """Return what a response holds that came without deltas."""
        found = []
        for index, item in enumerate(items(response.get("output"))):
            for part in items(item.get("content")):
                if part.get("refusal"):
                    self.refused.add(0)
                found.append(ChatDelta(text(part.get("text")) or text(part.get("refusal")), raw=raw))
            found += [ChatDelta(reasoning=text(part.get("text")), raw=raw) for part in items(item.get("summary"))]
            if item.get("type") == "function_call":
                found.append(self._item(item, raw, index))
        return found


def _usage(response: dict[str, Any]) -> Any:
    return usage_of(response.get("usage"), "input_tokens", "output_tokens")


def _body(model: str, messages: Any, more: dict[str, Any]) -> dict[str, Any]:
    return {"model": model, "input": messages, **more, "stream": True}


OPENAI_RESPONSES = Dialect(name="openai-responses", body=_body, parser=_ResponsesParser, takes_text=True)
