"""Builds the completion from deltas; no I/O."""

from __future__ import annotations

import enum
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from resilient_requests.chat._types import ChatCompletion, ChatDelta, ToolCall, Usage
from resilient_requests.chat.kinds import is_json, joined

if TYPE_CHECKING:
    from collections.abc import Iterable

    from resilient_requests.chat.dialects import Parser

__all__ = ["CompletionBuilder", "Finish", "has_broken_calls", "weight"]

# The finish reasons of all dialects for an answer that has reached a limit of its length.
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
_NAMED = ("custom", "function")


class Finish(enum.IntEnum):
    """How far a choice has come; of several choices the lowest counts."""

    OPEN = 0  # it has no finish reason
    EARLY = 1  # it has one, but before any part of the answer, or followed by one
    AT_ONCE = 2  # it has one, in its first chunk: more may follow
    LAST = 3  # it has one, after its other parts


# Up to Python 3.11, looking up a member on its class takes as long as a call.
_OPEN = Finish.OPEN


class _Choice:
    def __init__(self) -> None:
        self.content: list[str] = []
        self.reasoning: list[str] = []
        self.calls: dict[int, ToolCall] = {}
        self.arguments: dict[int, list[str]] = {}
        self.finish_reason: str | None = None
        self.finish = Finish.OPEN

    @property
    def has_payload(self) -> bool:
        return bool(self.content or self.reasoning or self.calls)

    def follow(self, reason: str | None, *, was_begun: bool, is_part: bool) -> None:
        """Note a chunk's effect on the end; ``was_begun``: an earlier chunk held a part."""
        if self.finish is not Finish.OPEN:
            if is_part:
                self.finish = Finish.EARLY
        elif reason:
            self.finish = Finish.LAST if was_begun else Finish.AT_ONCE if is_part else Finish.EARLY
        self.finish_reason = reason or self.finish_reason

    def add_call(self, fragment: ToolCall) -> None:
        index = fragment.index
        known = self.calls.get(index)
        if known is None:
            self.calls[index] = fragment
            self.arguments[index] = [fragment.arguments]
            return
        self.arguments[index].append(fragment.arguments)
        if (fragment.id and not known.id) or (fragment.name and not known.name):
            call_id, name = known.id or fragment.id, known.name or fragment.name
            self.calls[index] = ToolCall(index, call_id, name, kind=fragment.kind)

    def tool_calls(self) -> tuple[ToolCall, ...]:
        return tuple(
            replace(self.calls[index], arguments=joined(self.arguments[index]))
            for index in sorted(self.calls)
        )


class CompletionBuilder:
    """Puts the deltas of one answer together; belongs to one thread."""

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self._choices: dict[int, _Choice] = {}

    def add(self, delta: ChatDelta) -> bool:
        """Take one delta in, and return whether it carries a part of the answer."""
        content, reasoning, calls, finish_reason, usage, index, _ = delta
        if usage is not None:
            self.usage = usage
        choice = self._choices.get(index)
        if choice is None:
            if not (content or reasoning or calls or finish_reason):
                return False  # a role, usage, or nothing at all
            choice = self._choices[index] = _Choice()
        if choice.finish is not _OPEN or calls or finish_reason:
            return self._add(choice, delta)
        if content:  # nearly all deltas have only content
            choice.content.append(content)
        if reasoning:
            choice.reasoning.append(reasoning)
        return bool(content or reasoning)

    @staticmethod
    def _add(choice: _Choice, delta: ChatDelta) -> bool:
        was_begun = choice.has_payload
        if delta.content:
            choice.content.append(delta.content)
        if delta.reasoning:
            choice.reasoning.append(delta.reasoning)
        for fragment in delta.tool_calls:
            choice.add_call(fragment)
        is_part = bool(delta.content or delta.reasoning or delta.tool_calls)
        choice.follow(delta.finish_reason, was_begun=was_begun, is_part=is_part)
        return is_part

    def finish(self, choices: int) -> Finish:
        """Return how far the answer has come; at least ``choices`` of them are expected."""
        if len(self._choices) < choices:
            return Finish.OPEN
        return min((choice.finish for choice in self._choices.values()), default=Finish.OPEN)

    def settle(self) -> None:
        """Take a finish reason that came at once as final, because no answer follows it."""
        for choice in self._choices.values():
            if choice.finish is Finish.AT_ONCE:
                choice.finish = Finish.LAST

    def completion(
        self, parser: Parser, *, is_final: bool, truncated: bool, attempts: tuple[Any, ...]
    ) -> ChatCompletion:
        """Return the answer so far; ``is_final`` adds the calls and the message."""
        found = []
        for index in sorted(self._choices) or [0]:
            choice = self._choices.get(index) or _Choice()
            calls = choice.tool_calls() if is_final and index not in parser.refused else ()
            completion = ChatCompletion(
                joined(choice.content),
                joined(choice.reasoning),
                calls,
                choice.finish_reason,
                self.usage,
                parser.model,
                parser.id,
                truncated or parser.contradiction is not None or not _are_whole(calls),
                attempts,
                unknown=dict(parser.unknown),
            )
            message = _message(parser, index, completion) if is_final else None
            found.append(replace(completion, message=message))
        first, *others = found
        return replace(first, alternatives=tuple(others)) if others else first


def _message(parser: Parser, index: int, completion: ChatCompletion) -> Any:
    """Return the message of a choice; None where it is nested too deeply for one."""
    try:
        return parser.message(index, completion)
    except RecursionError:
        return None


def has_broken_calls(completion: ChatCompletion) -> bool:
    """Return True if a call lacks a name or valid JSON, which another attempt may mend."""
    choices = (completion, *completion.alternatives)
    # A call that the caller's own limit has cut would be cut again, at the same price.
    return any(
        each.finish_reason not in _AT_LIMIT and not _are_whole(each.tool_calls) for each in choices
    )


def _are_whole(calls: Iterable[ToolCall]) -> bool:
    """Return True if each call has a name, and each function JSON for its arguments."""
    for call in calls:
        if call.kind in _NAMED and call.name is None:
            return False
        written = call.arguments.strip() if call.kind == "function" else ""
        if written and not is_json(written):
            return False
    return True


def weight(completion: ChatCompletion | None) -> int:
    """Return the size of an answer: of two partial ones the larger is better."""
    if completion is None:
        return -1
    calls = sum(len(each.arguments) for each in completion.tool_calls)
    own = len(completion.content) + len(completion.reasoning) + calls
    return own + sum(weight(each) for each in completion.alternatives)
