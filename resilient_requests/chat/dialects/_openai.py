"""OpenAI chat completions, and what Azure, OpenRouter, DeepSeek, vLLM and others make of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resilient_requests.chat._types import ChatDelta, ToolCall, Usage
from resilient_requests.chat.dialects._dialect import Dialect, Parser
from resilient_requests.chat.dialects._errors import error_of
from resilient_requests.chat.dialects._members import as_json, count, items, position, table, text

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["OPENAI", "ToolIndex", "usage_of"]

_VOID = frozenset({"refusal", "content_filter"})


def usage_of(
    raw: object, read: str = "prompt_tokens", written: str = "completion_tokens"
) -> Usage | None:
    """Return a usage object with the names that the dialect gives its members; None where there is none."""
    if not isinstance(raw, dict) or not raw:
        return None
    return Usage(count(raw.get(read)), count(raw.get(written)), count(raw.get("total_tokens")), raw)


class ToolIndex:
    """Tells which call a fragment belongs to, for one choice.

    By ``index``; gateways that leave it out, or give 0 to every call, are told apart by ``id``: such a call gets the
    next index that is free.
    """

    def __init__(self) -> None:
        self._ids: dict[
            int, str | None
        ] = {}  # our index -> id, in the order in which the calls came
        self._places: dict[
            int, int
        ] = {}  # the provider's index -> ours, which differs where it was taken

    def place(self, fragment: Mapping[str, Any], has_name: bool) -> int:
        """Return the index of a fragment's call. Raises `BadChunkError`."""
        given, call_id = fragment.get("index"), text(fragment.get("id")) or None
        if given is not None:
            given = position(given, "tool call")
            place = self._places.get(given)
            if place is None or (
                has_name and call_id is not None and self._ids[place] not in (None, call_id)
            ):
                place = self._places[given] = self._add(call_id, given)
            return place
        if call_id is not None:
            known = [place for place, each in self._ids.items() if each == call_id]
            return known[0] if known else self._add(call_id)
        return self._add(None) if has_name or not self._ids else next(reversed(self._ids))

    def _add(self, call_id: str | None, wanted: int | None = None) -> int:
        if wanted is None or wanted in self._ids:
            wanted = position(max(self._ids, default=-1) + 1, "tool call")
        self._ids[wanted] = call_id
        return wanted


class OpenAIParser(Parser):
    """Reads ``chat.completion.chunk`` objects."""

    def __init__(self) -> None:
        super().__init__()
        self._tools: dict[int, ToolIndex] = {}

    def chunk(self, event: str, data: dict[str, Any]) -> list[ChatDelta]:  # noqa: ARG002  # its events have no names
        return self._deltas(data, "delta")

    def whole(self, data: dict[str, Any]) -> list[ChatDelta]:
        deltas = self._deltas(data, "message")
        if not deltas or not isinstance(data.get("choices"), list):
            return super().whole(data)
        self.is_done = True
        return deltas

    def _deltas(self, data: dict[str, Any], member: str) -> list[ChatDelta]:
        if not self.id:
            self.id = text(data.get("id")) or None
        if not self.model:
            self.model = text(data.get("model")) or None
        usage = usage_of(data.get("usage"))
        choices = items(data.get("choices"))
        if len(choices) == 1:  # nearly always
            return [self._choice(choices[0], member, usage, data)]
        if not choices:
            return [ChatDelta(usage=usage, raw=data)]
        last = len(choices) - 1
        return [
            self._choice(each, member, usage if n == last else None, data)
            for n, each in enumerate(choices)
        ]

    def _choice(
        self, choice: dict[str, Any], member: str, usage: Usage | None, raw: dict[str, Any]
    ) -> ChatDelta:
        index = choice.get("index", 0) or 0
        if index:
            index = position(index, "choice")
        self.choices.add(index)
        finish = text(choice.get("finish_reason")) or None
        if finish == "error" or choice.get("error"):
            raise error_of(choice.get("error") or {})
        delta = table(choice.get(member))
        content = delta.get("content")
        if not isinstance(content, str):
            content = ""
        if delta.get("refusal") or finish in _VOID:
            self.refused.add(index)
            content += text(delta.get("refusal"))
        calls = delta.get("tool_calls")
        return ChatDelta(
            content,
            _reasoning(delta),
            self._calls(index, calls) if calls else (),
            finish,
            usage,
            index,
            raw,
        )

    def _calls(self, choice: int, calls: object) -> tuple[ToolCall, ...]:
        places = self._tools.setdefault(choice, ToolIndex())
        found = []
        for fragment in items(calls):
            function = table(fragment.get("function"))
            name = text(function.get("name")) or None
            place = places.place(fragment, name is not None)
            found.append(
                ToolCall(
                    place,
                    text(fragment.get("id")) or None,
                    name,
                    as_json(function.get("arguments")),
                )
            )
        return tuple(found)


def _reasoning(delta: dict[str, Any]) -> str:
    """Return what providers have added to the dialect, each in a way of its own, several of them twice."""
    for name in ("reasoning_content", "reasoning"):
        found = delta.get(name)
        if found and isinstance(found, str):
            return found
    details = delta.get("reasoning_details")
    return (
        "".join(text(each.get("text")) or text(each.get("summary")) for each in items(details))
        if details
        else ""
    )


def _asks_usage(body: Mapping[str, Any]) -> bool:
    return bool(table(body.get("stream_options")).get("include_usage"))


def _choices(body: Mapping[str, Any]) -> int:
    return count(body.get("n")) or 1


OPENAI = Dialect(name="openai", parser=OpenAIParser, asks_usage=_asks_usage, choices=_choices)
