"""OpenAI responses, and the variants of vLLM, gateways and others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resilient_requests.chat._types import ChatDelta
from resilient_requests.chat.dialects._dialect import Dialect, Parser
from resilient_requests.chat.kinds import (
    Added,
    Items,
    Tokens,
    as_json,
    error_of,
    items,
    said,
    table,
    text,
    words,
)

if TYPE_CHECKING:
    from resilient_requests.chat._types import ChatCompletion

__all__ = ["OPENAI_RESPONSES"]

# The events that bring a text, piece by piece (".delta") or whole (".done"), each with the family
# of its item and the kind of the text.
_TEXTS = {
    "response.output_text": ("message", "text"),
    "response.refusal": ("message", "refusal"),
    "response.reasoning": ("reasoning", "reasoning"),
    "response.reasoning_text": ("reasoning", "reasoning"),
    "response.reasoning_summary": ("reasoning", "summary"),
    "response.reasoning_summary_text": ("reasoning", "summary"),
    "response.function_call_arguments": ("call", "input"),
    "response.custom_tool_call_input": ("call", "input"),
}
_WHOLE = ("text", "refusal", "arguments", "input")  # the member that holds a text as a whole
_PARTS = ("response.content_part", "response.reasoning_summary_part")
_CLOSING = ("response.completed", "response.incomplete", "response.failed", "response.cancelled")
_SILENT = words("keepalive ping response.created response.in_progress response.queued")
# Other output: audio, images, and the tools that the provider runs itself.
_OTHERS = tuple(
    words(
        """
        response.apply_patch_call response.audio response.code_interpreter_call response.compaction
        response.computer_call response.file_search_call response.image_generation_call
        response.mcp_ response.output_text.annotation response.shell_call response.web_search_call
        """
    )
)


class _ResponsesParser(Parser):
    """Reads the events of a response; the event's name equals ``type`` in the data."""

    tokens = Tokens(("input_tokens",), ("output_tokens",))

    def __init__(self) -> None:
        super().__init__()
        self._items = Items()

    def chunk(self, event: str, data: dict[str, Any]) -> list[ChatDelta] | None:
        kind = text(data.get("type")) or event
        name, _, step = kind.rpartition(".")
        if name in _TEXTS:
            return [self._text(*_TEXTS[name], step, data)]
        if name == "response.output_item":
            return self._item(table(data.get("item")), step, data)
        if kind in _CLOSING:
            return self._close(table(data.get("response")), step, data)
        if name in _PARTS and step == "done":
            return [self._part(table(data.get("part")), data)]
        self.begin(table(data.get("response")))
        is_silent, is_other = name in _PARTS or kind in _SILENT, kind.startswith(_OTHERS)
        self.other_output += is_other or (step == "delta" and not is_silent)
        return [ChatDelta(raw=data)] if is_silent or is_other else None

    def whole(self, data: dict[str, Any]) -> list[ChatDelta] | None:
        if not isinstance(data.get("output"), list):
            return None
        is_over = data.get("status") not in ("queued", "in_progress")
        self.begin(data)
        return self._close(data, "completed", data) if is_over else self._output(data, data)

    def message(self, index: int, completion: ChatCompletion) -> Any:  # noqa: ARG002
        return self._items.built() or None

    def _text(self, family: str, kind: str, step: str, data: dict[str, Any]) -> ChatDelta:
        if step == "delta":
            return self._delta(self._items.add(data, family, kind, text(data.get("delta"))), data)
        whole = next((found for name in _WHOLE if (found := as_json(data.get(name)))), "")
        return self._delta(self._items.add_part(data, family, kind, "text", whole), data)

    def _part(self, part: dict[str, Any], data: dict[str, Any]) -> ChatDelta:
        spoken, place = said(part), ("message", "text")
        if spoken.reasoning:
            is_summary = text(part.get("type")).startswith("summary")
            place = ("reasoning", "summary" if is_summary else "reasoning")
        elif spoken.refusal:
            place = ("message", "refusal")
        whole = spoken.content or spoken.reasoning or spoken.refusal
        return self._delta(self._items.add_part(data, *place, "part", whole), data)

    def _item(self, raw: dict[str, Any], step: str, data: dict[str, Any]) -> list[ChatDelta]:
        added = self._items.add_item(raw, data, is_done=step == "done")
        self.other_output += raw.get("type") not in ("message", "reasoning")
        return [self._delta(each, data) for each in added] or [ChatDelta(raw=data)]

    def _output(self, response: dict[str, Any], raw: dict[str, Any]) -> list[ChatDelta]:
        added = self._items.add_output(items(response.get("output")))
        return [self._delta(each, raw) for each in added]

    def _delta(self, added: Added, raw: dict[str, Any]) -> ChatDelta:
        self.contradiction = self.contradiction or self._items.contradiction
        if added.call is not None:
            return ChatDelta(tool_calls=(added.call,), raw=raw)
        if added.kind in ("reasoning", "summary"):
            return ChatDelta(reasoning=added.text, raw=raw)
        if added.kind == "refusal" and added.text:
            self.refused.add(0)
        return ChatDelta(added.text, raw=raw)

    def _close(self, response: dict[str, Any], end: str, raw: dict[str, Any]) -> list[ChatDelta]:
        self.begin(response)
        status = text(response.get("status")) or end
        if response.get("error") or status == "failed":
            raise error_of(response.get("error") or {})
        output = self._output(response, raw)
        reason = text(table(response.get("incomplete_details")).get("reason")) or status
        if reason == "content_filter":
            self.refused.add(0)
        self.is_done = True
        usage = self.usage(response.get("usage"))
        return [*output, ChatDelta(finish_reason=reason, usage=usage, raw=raw)]


def _body(model: str, messages: Any, more: dict[str, Any]) -> dict[str, Any]:
    """Return the body; ``messages`` may hold an answer's ``message``, which is a list of items."""
    if any(isinstance(each, list) for each in messages):
        nested = [each if isinstance(each, list) else [each] for each in messages]
        messages = [item for each in nested for item in each]
    return {"model": model, "input": messages, **more, "stream": True}


OPENAI_RESPONSES = Dialect(
    name="openai-responses", body=_body, parser=_ResponsesParser, takes_text=True
)
