"""OpenAI chat completions, and what Azure, OpenRouter, DeepSeek, vLLM and others make of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resilient_requests.chat._types import ChatDelta, ToolCall
from resilient_requests.chat.dialects._dialect import Dialect, Parser
from resilient_requests.chat.kinds import (
    Contradiction,
    Message,
    Said,
    as_json,
    count,
    error_of,
    items,
    position,
    reason,
    said,
    table,
    text,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from resilient_requests.chat._types import ChatCompletion

__all__ = ["OPENAI"]

_VOID = ("refusal", "content_filter")
# Each provider has a name of its own, and several send the same text under two of them.
_REASONING = ("reasoning_content", "reasoning", "reasoning_text", "reasoning_details")
_OTHER_OUTPUT = frozenset({"annotations", "audio", "images", "reasoning_opaque"})
_READ_ELSEWHERE = frozenset({"content", "function_call", "tool_calls"})
_KNOWN = frozenset({"refusal", "role", *_REASONING}) | _OTHER_OUTPUT | _READ_ELSEWHERE
_OF_A_CALL = frozenset({"custom", "function", "id", "index", "type"})


class _OpenAIParser(Parser):
    """Reads ``chat.completion.chunk`` objects."""

    def __init__(self) -> None:
        super().__init__()
        self._messages: dict[int, Message] = {}
        self._first: list[str] | None = None  # the text of choice 0, while it has no parts

    def chunk(self, event: str, data: dict[str, Any]) -> list[ChatDelta] | None:  # noqa: ARG002
        # Nearly all chunks are a piece of text for choice 0: these lines are all that one costs.
        try:
            (choice,) = data["choices"]
            delta = choice["delta"]
            if (
                self._first is not None
                and len(delta) - ("role" in delta) == 1
                and (content := delta["content"]).__class__ is str
                and choice.get("finish_reason") is None
                and choice["index"] == 0
                and "error" not in choice
                and not data.get("usage")
            ):
                self._first.append(content)
                return [ChatDelta(content, raw=data)]
        except (AttributeError, KeyError, TypeError, ValueError):
            pass
        return self._deltas(data)

    def whole(self, data: dict[str, Any]) -> list[ChatDelta] | None:
        choices = items(data.get("choices"))
        if not any(isinstance(each.get("message"), dict) for each in choices):
            return None
        self.is_done = True
        return self._deltas(data)

    def message(self, index: int, completion: ChatCompletion) -> Any:
        message = self._messages.get(index)
        return None if message is None else message.built(completion.tool_calls)

    def _deltas(self, data: dict[str, Any]) -> list[ChatDelta] | None:
        self.id = self.id or text(data.get("id")) or None
        self.model = self.model or text(data.get("model")) or None
        choices = items(data.get("choices"))
        places = (data, table(data.get("x_groq")), *choices)
        usage = self.usage(next((each["usage"] for each in places if each.get("usage")), None))
        if not choices:
            is_known = usage is not None or "choices" in data
            return [ChatDelta(usage=usage, raw=data)] if is_known else None
        found = [self._choice(each, data) for each in choices]
        return found if usage is None else [*found[:-1], found[-1]._replace(usage=usage)]

    def _choice(self, choice: dict[str, Any], raw: dict[str, Any]) -> ChatDelta:
        index = position(choice.get("index") or 0, "choice")
        self.choices.add(index)
        message = self._messages.setdefault(index, Message())
        finish = reason(choice.get("finish_reason"))
        if choice.get("error"):
            raise error_of(choice["error"])
        delta = table(choice.get("delta"))
        if not delta and choice.get("message"):
            delta = self._missing(message, table(choice["message"]))
        spoken = message.take_content(delta.get("content") or "")
        thought = _reasoning(delta)
        refusal = text(delta.get("refusal")) or spoken.refusal
        if refusal or finish in _VOID:
            self.refused.add(index)
        self.other_output += bool(spoken.others or thought.others)
        calls = self._others(message, delta) if len(delta) > 1 or "content" not in delta else ()
        if index == 0:
            self._first = message.content if message.is_plain else None
        content, reasoning = spoken.content + refusal, spoken.reasoning or thought.reasoning
        return ChatDelta(content, reasoning, calls, finish, None, index, raw)

    def _missing(self, message: Message, told: dict[str, Any]) -> dict[str, Any]:
        try:
            return message.missing(told)
        except Contradiction:
            self.contradiction = "the whole message has another text than its deltas"
            return {}

    def _others(self, message: Message, delta: dict[str, Any]) -> tuple[ToolCall, ...]:
        """Take what a delta holds beside its text, and return its calls."""
        for name, value in delta.items():
            if not value or name in _READ_ELSEWHERE:
                continue
            message.take_member(name, value)
            self.other_output += name in _OTHER_OUTPUT or name not in _KNOWN
            if name not in _KNOWN:
                self.note_unknown(f"delta.{name}")
        calls = items(delta.get("tool_calls"))
        old = delta.get("function_call")
        if old and not calls:  # of the time before a model could make several calls
            message.members["function_call"] = None
            calls = [{"index": 0, "function": old}]
        return tuple(self._call(message, each) for each in calls)

    def _call(self, message: Message, fragment: dict[str, Any]) -> ToolCall:
        kind = "custom" if isinstance(fragment.get("custom"), dict) else "function"
        of_it = table(fragment.get(kind))
        written = as_json(of_it.get("input" if kind == "custom" else "arguments"))
        call_id, name = text(fragment.get("id")) or None, text(of_it.get("name")) or None
        call = message.calls.fragment(fragment.get("index"), call_id, name, written, kind)
        # Gemini's compatible API keeps the signatures of thoughts there.
        more = {each: value for each, value in fragment.items() if each not in _OF_A_CALL}
        message.take_of_call(call.index, more)
        return call


def _reasoning(delta: dict[str, Any]) -> Said:
    for name in _REASONING:
        if found := delta.get(name):
            thought = said(found, is_reasoning=True)
            if thought.reasoning or thought.others:
                return thought
    return Said()


def _asks_usage(body: Mapping[str, Any]) -> bool:
    return bool(table(body.get("stream_options")).get("include_usage"))


def _choices(body: Mapping[str, Any]) -> int:
    return count(body.get("n")) or 1


OPENAI = Dialect(name="openai", parser=_OpenAIParser, asks_usage=_asks_usage, choices=_choices)
