"""OpenAI responses."""

from __future__ import annotations

from typing import Any

from resilient_requests.chat._types import ChatDelta, ToolCall
from resilient_requests.chat.dialects._dialect import Dialect, Parser
from resilient_requests.chat.dialects._errors import error_of
from resilient_requests.chat.dialects._members import as_json, count, items, position, table, text
from resilient_requests.chat.dialects._openai import usage_of

__all__ = ["OPENAI_RESPONSES"]

# What the events of these names hold, piece by piece (".delta") and whole (".done").
_PIECES = {
    "response.output_text": "text",
    "response.refusal": "refusal",
    "response.reasoning_text": "reasoning",
    "response.reasoning_summary_text": "reasoning",
}
_OPENING = ("response.created", "response.queued", "response.in_progress")
_UNFINISHED = ("queued", "in_progress")
_CLOSING = ("response.completed", "response.incomplete", "response.failed")


class _ResponsesParser(Parser):
    """Reads the events of a response; the event's name equals ``type`` in the data."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: dict[int, int] = {}  # output index -> number of the call
        self._begun: set[int] = set()  # calls that some of their arguments have come of
        self._shown: set[tuple[str, int, int]] = (
            set()
        )  # kind, output and part of what was handed out

    def chunk(self, event: str, data: dict[str, Any]) -> list[ChatDelta]:
        kind = text(data.get("type")) or event
        name, _, step = kind.rpartition(".")
        if name in _PIECES:
            return [self._piece(_PIECES[name], step, data)]
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
        if data.get("status") in _UNFINISHED:
            self._begin(data)
            return self._output(data, data)
        return self._close(data, data)

    def _piece(self, what: str, step: str, data: dict[str, Any]) -> ChatDelta:
        part = count(data.get("content_index")) or count(data.get("summary_index")) or 0
        place = what, count(data.get("output_index")) or 0, part
        added = text(data.get("delta"))
        # ".done" repeats the whole, which counts only where there were no deltas.
        if step == "done" and place not in self._shown:
            added = text(data.get("text")) or text(data.get("refusal"))
        if added:
            self._shown.add(place)
        return self._said(what, added, data)

    def _said(self, what: str, added: str, raw: dict[str, Any]) -> ChatDelta:
        if what == "refusal":
            self.refused.add(0)
        return (
            ChatDelta(reasoning=added, raw=raw)
            if what == "reasoning"
            else ChatDelta(added, raw=raw)
        )

    def _begin(self, response: dict[str, Any]) -> None:
        self.id = text(response.get("id")) or self.id
        self.model = text(response.get("model")) or self.model

    def _arguments(self, data: dict[str, Any]) -> ChatDelta:
        index = position(data.get("output_index", 0), "output")
        number = self._calls.setdefault(index, len(self._calls))
        # ".done" repeats the whole, which counts only where there were no deltas.
        added = text(data.get("delta")) or (
            as_json(data.get("arguments")) if number not in self._begun else ""
        )
        if not added:
            return ChatDelta(raw=data)
        self._begun.add(number)
        return ChatDelta(tool_calls=(ToolCall(number, arguments=added),), raw=data)

    def _item(self, item: dict[str, Any], raw: dict[str, Any], index: object = None) -> ChatDelta:
        if item.get("type") != "function_call":
            return ChatDelta(raw=raw)
        place = position(raw.get("output_index", 0) if index is None else index, "output")
        is_new = place not in self._calls
        number = self._calls.setdefault(place, len(self._calls))
        arguments = as_json(item.get("arguments")) if number not in self._begun else ""
        if not is_new and not arguments:
            return ChatDelta(raw=raw)
        if arguments:
            self._begun.add(number)
        call = ToolCall(
            number, text(item.get("call_id")) or None, text(item.get("name")) or None, arguments
        )
        return ChatDelta(tool_calls=(call,), raw=raw)

    def _close(
        self, response: dict[str, Any], raw: dict[str, Any], end: str = "completed"
    ) -> list[ChatDelta]:
        self._begin(response)
        status = text(response.get("status")) or end
        if response.get("error") or status == "failed":
            raise error_of(response.get("error") or {})
        output = self._output(response, raw)
        reason = text(table(response.get("incomplete_details")).get("reason")) or status
        if reason == "content_filter":
            self.refused.add(0)
        self.is_done = True
        return [*output, ChatDelta(finish_reason=reason, usage=_usage(response), raw=raw)]

    def _output(self, response: dict[str, Any], raw: dict[str, Any]) -> list[ChatDelta]:
        """Return what a response holds of the kinds that did not come before: not all servers count its parts alike."""
        shown = {what for what, *_ in self._shown}
        has_calls = bool(self._calls)
        found = []
        for index, item in enumerate(items(response.get("output"))):
            if item.get("type") == "function_call" and (index in self._calls or not has_calls):
                found.append(self._item(item, raw, index))
            of_content = "reasoning" if item.get("type") == "reasoning" else "text"
            parts = [
                ("refusal" if part.get("refusal") else of_content, part)
                for part in items(item.get("content"))
            ]
            parts += [("reasoning", part) for part in items(item.get("summary"))]
            for what, part in parts:
                if what not in shown:
                    found.append(
                        self._said(what, text(part.get("text")) or text(part.get("refusal")), raw)
                    )
        return found


def _usage(response: dict[str, Any]) -> Any:
    return usage_of(response.get("usage"), "input_tokens", "output_tokens")


def _body(model: str, messages: Any, more: dict[str, Any]) -> dict[str, Any]:
    return {"model": model, "input": messages, **more, "stream": True}


OPENAI_RESPONSES = Dialect(
    name="openai-responses", body=_body, parser=_ResponsesParser, takes_text=True
)
