"""OpenAI chat completions, and the variants of Azure, OpenRouter, DeepSeek, vLLM and others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resilient_requests.chat._types import ChatDelta, ToolCall, new_delta
from resilient_requests.chat.dialects._dialect import Dialect, Parser
from resilient_requests.chat.kinds import (
    Message,
    Said,
    as_json,
    count,
    error_of,
    grow_text,
    items,
    position,
    reason,
    said,
    table,
    text,
    words,
)

if TYPE_CHECKING:
    from resilient_requests.chat._types import ChatCompletion

__all__ = ["OPENAI"]

# Each provider has its own name for it, and several send the same text under two names.
_REASONING = ("reasoning_content", "reasoning", "reasoning_text", "reasoning_details")
_READ_ELSEWHERE = words("content function_call role tool_calls")
_KNOWN = words("annotations audio images reasoning_opaque refusal") | {*_REASONING}
_NO_OUTPUT = frozenset({"refusal", *_REASONING})
_OF_A_CALL = words("custom function id index type")


class _OpenAIParser(Parser):
    """Reads ``chat.completion.chunk`` objects."""

    def __init__(self) -> None:
        super().__init__()
        self._messages: dict[int, Message] = {}
        self._first: Message | None = None  # of choice 0, while its content has no parts

    def chunk(self, event: str, data: dict[str, Any]) -> list[ChatDelta] | None:  # noqa: ARG002
        # Nearly every chunk is a piece of text for choice 0, and costs only these lines.
        try:
            (choice,) = data["choices"]
            delta, first = choice["delta"], self._first
            is_plain = choice.get("finish_reason") is None and "error" not in choice
            if first is not None and is_plain and choice["index"] == 0 and not data.get("usage"):
                content, members = delta.get("content"), len(delta) - ("role" in delta)
                if members == 1 and content.__class__ is str:
                    first.content.append(content)
                    return [new_delta((content, "", (), None, None, 0, data))]
                thought = delta.get("reasoning_content")
                if members == 1 + ("content" in delta) and not content and thought.__class__ is str:
                    grow_text(first.members, "reasoning_content", thought)
                    return [ChatDelta("", thought, raw=data)]
        except (AttributeError, KeyError, TypeError, ValueError):
            pass
        return self._deltas(data)

    def whole(self, data: dict[str, Any]) -> list[ChatDelta] | None:
        choices = items(data.get("choices"))
        self.is_done = any(isinstance(each.get("message"), dict) for each in choices)
        return self._deltas(data) if self.is_done else None

    def message(self, index: int, completion: ChatCompletion) -> Any:
        found = self._messages.get(index)
        return found and found.built(completion.tool_calls)

    def _deltas(self, data: dict[str, Any]) -> list[ChatDelta] | None:
        self.begin(data)
        choices = items(data.get("choices"))
        usage = self.usage(data.get("usage") or table(data.get("x_groq")).get("usage"))
        if not choices:  # the last chunk with include_usage has none
            is_known = usage is not None or "choices" in data
            return [ChatDelta(usage=usage, raw=data)] if is_known else None
        found = [self._choice(each, data) for each in choices]
        return found if usage is None else [*found[:-1], found[-1]._replace(usage=usage)]

    def _choice(self, choice: dict[str, Any], raw: dict[str, Any]) -> ChatDelta:
        index = position(choice.get("index") or 0, "choice")
        self.choices.add(index)
        message = self._messages.get(index) or self._messages.setdefault(index, Message())
        finish = reason(choice.get("finish_reason"))
        if choice.get("error"):
            raise error_of(choice["error"])
        delta = table(choice.get("delta"))
        if not delta and choice.get("message"):
            delta = message.missing(table(choice["message"]))
            self.contradiction = self.contradiction or message.contradiction
        spoken = message.take_content(delta.get("content"))
        thought = _reasoning(delta)
        refusal = text(delta.get("refusal")) or spoken.refusal
        if refusal or finish in ("refusal", "content_filter"):
            self.refused.add(index)
        self.other_output += bool(spoken.others or thought.others)
        calls = self._others(message, delta) if len(delta) > 1 or "content" not in delta else ()
        if index == 0:
            self._first = message if message.is_plain else None
        content, reasoning = spoken.content + refusal, spoken.reasoning or thought.reasoning
        usage = self.usage(choice.get("usage"))  # Kimi puts it there
        return ChatDelta(content, reasoning, calls, finish, usage, index, raw)

    def _others(self, message: Message, delta: dict[str, Any]) -> tuple[ToolCall, ...]:
        """Add the members of a delta beside its text, and return its calls."""
        message.members["role"] = text(delta.get("role")) or message.members["role"]
        for name, value in delta.items():
            if not value or name in _READ_ELSEWHERE:
                continue
            message.take_member(name, value)
            self.other_output += name not in _NO_OUTPUT
            if name not in _KNOWN:
                self.note_unknown(f"delta.{name}")
        calls = items(delta.get("tool_calls"))
        if delta.get("function_call") and not calls:  # the older form, which allows one call
            message.members["function_call"] = None
            calls = [{"index": 0, "function": delta["function_call"]}]
        return tuple(self._call(message, each) for each in calls)

    def _call(self, message: Message, fragment: dict[str, Any]) -> ToolCall:
        kind = "custom" if isinstance(fragment.get("custom"), dict) else "function"
        of_it = table(fragment.get(kind))
        written = as_json(of_it.get("input" if kind == "custom" else "arguments"))
        call_id, name = text(fragment.get("id")) or None, text(of_it.get("name")) or None
        call = message.calls.fragment(fragment.get("index"), call_id, name, written, kind)
        # Gemini's OpenAI-compatible API keeps the signatures of thoughts in extra members.
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


OPENAI = Dialect(
    name="openai",
    parser=_OpenAIParser,
    asks_usage=lambda body: bool(table(body.get("stream_options")).get("include_usage")),
    choices=lambda body: count(body.get("n")) or 1,
)
