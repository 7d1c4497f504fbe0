"""Deltas in, the completion out; no I/O."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from resilient_requests.chat._types import ChatCompletion, ChatDelta, ToolCall, Usage

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

__all__ = ["CompletionBuilder", "has_broken_calls", "is_payload", "joined", "weight"]

_AT_LIMIT = frozenset(
    {
        "length",
        "max_tokens",
        "max_output_tokens",
        "model_context_window_exceeded",
        "model_length",
        "MAX_TOKENS",
    }
)


def joined(pieces: Iterable[str]) -> str:
    """Return one text; a character whose halves (UTF-16 surrogates) came in two pieces is one again."""
    text = "".join(pieces)
    return (
        text
        if text.isascii()
        else text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    )


def is_payload(delta: ChatDelta) -> bool:
    """Whether a delta carries a part of the answer: a role, usage or nothing at all is none."""
    return bool(delta.content or delta.reasoning or delta.tool_calls or delta.finish_reason)


class _Choice:
    def __init__(self) -> None:
        self.content: list[str] = []
        self.reasoning: list[str] = []
        self.calls: dict[int, ToolCall] = {}
        self.arguments: dict[int, list[str]] = {}
        self.finish_reason: str | None = None

    def add_call(self, fragment: ToolCall) -> None:
        index = fragment.index
        known = self.calls.get(index)
        if known is None:
            self.calls[index] = fragment
            self.arguments[index] = [fragment.arguments]
            return
        self.arguments[index].append(fragment.arguments)
        if (fragment.id and not known.id) or (fragment.name and not known.name):
            self.calls[index] = ToolCall(
                index, known.id or fragment.id, known.name or fragment.name
            )

    def tool_calls(self) -> tuple[ToolCall, ...]:
        return tuple(
            ToolCall(
                index, self.calls[index].id, self.calls[index].name, joined(self.arguments[index])
            )
            for index in sorted(self.calls)
        )


class CompletionBuilder:
    """Puts the deltas of one answer together; belongs to one thread."""

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self._choices: dict[int, _Choice] = {}
        self._unfinished = 0

    def add(self, delta: ChatDelta) -> bool:
        """Take one delta in, and return whether it carries a part of the answer."""
        if delta.usage is not None:
            self.usage = delta.usage
        if not is_payload(delta):
            return False
        choice = self._choices.get(delta.index)
        if choice is None:
            choice = self._choices[delta.index] = _Choice()
            self._unfinished += 1
        if delta.content:
            choice.content.append(delta.content)
        if delta.reasoning:
            choice.reasoning.append(delta.reasoning)
        for fragment in delta.tool_calls:
            choice.add_call(fragment)
        if delta.finish_reason:
            self._unfinished -= choice.finish_reason is None
            choice.finish_reason = delta.finish_reason
        return True

    @property
    def has_payload(self) -> bool:
        """Whether a part of the answer has come."""
        return bool(self._choices)

    def is_finished(self, choices: int) -> bool:
        """Whether every choice that was seen has its finish reason, and at least so many were."""
        return not self._unfinished and len(self._choices) >= choices

    def completion(
        self, *, is_final: bool, truncated: bool, refused: Collection[int] = (), **facts: Any
    ) -> ChatCompletion:
        """Return the answer so far; tool calls only where it ``is_final``, and of no ``refused`` choice."""
        found = []
        for index in sorted(self._choices) or [0]:
            choice = self._choices.get(index) or _Choice()
            calls = choice.tool_calls() if is_final and index not in refused else ()
            content, reasoning = joined(choice.content), joined(choice.reasoning)
            is_cut = truncated or not _are_json(calls)
            found.append(
                ChatCompletion(
                    content,
                    reasoning,
                    calls,
                    choice.finish_reason,
                    self.usage,
                    truncated=is_cut,
                    **facts,
                )
            )
        first, *others = found
        return replace(first, alternatives=tuple(others)) if others else first


def has_broken_calls(completion: ChatCompletion) -> bool:
    """Whether the arguments of a tool call are no JSON, which another attempt may mend."""
    choices = (completion, *completion.alternatives)
    # Cut by the caller's own limit they would be so again, at the same price.
    return any(
        each.finish_reason not in _AT_LIMIT and not _are_json(each.tool_calls) for each in choices
    )


def _are_json(calls: Iterable[ToolCall]) -> bool:
    """Whether the arguments of all calls are JSON, or none at all."""
    try:
        for call in calls:
            json.loads(call.arguments.strip() or "null")
    except (ValueError, RecursionError):
        return False
    return True


def weight(completion: ChatCompletion | None) -> int:
    """Return how much of an answer there is, to tell which of two partial ones is better."""
    if completion is None:
        return -1
    calls = sum(len(each.arguments) for each in completion.tool_calls)
    own = len(completion.content) + len(completion.reasoning) + calls
    return own + sum(weight(each) for each in completion.alternatives)
