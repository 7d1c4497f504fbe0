"""Ollama's own API: one JSON object per line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resilient_requests.chat._types import ChatDelta, ToolCall
from resilient_requests.chat.dialects._dialect import Dialect, Parser
from resilient_requests.chat.kinds import Message, Tokens, as_json, items, reason, said, table, text

if TYPE_CHECKING:
    from resilient_requests.chat._types import ChatCompletion

__all__ = ["OLLAMA"]

_KNOWN = frozenset({"content", "images", "role", "thinking", "tool_calls", "tool_name"})


class _OllamaParser(Parser):
    """Reads the lines of ``/api/chat`` and ``/api/generate``."""

    tokens = Tokens(("prompt_eval_count",), ("eval_count",))

    def __init__(self) -> None:
        super().__init__()
        self._message = Message()
        self._calls: list[dict[str, Any]] = []

    def chunk(self, event: str, data: dict[str, Any]) -> list[ChatDelta] | None:  # noqa: ARG002
        message = table(data.get("message"))
        if not message and data.keys().isdisjoint({"response", "done"}):
            return None
        self.begin(data)
        self.is_done = data.get("done") is True
        spoken = self._message.take_content(message.get("content") or data.get("response") or "")
        thought = said(message.get("thinking") or data.get("thinking"), is_reasoning=True)
        calls = tuple(
            call for each in items(message.get("tool_calls")) if (call := self._call(each))
        )
        if message.keys() != {"role", "content"} or thought.reasoning:
            self._take_members({**message, "thinking": thought.reasoning})
        return [
            ChatDelta(
                spoken.content,
                spoken.reasoning or thought.reasoning,
                calls,
                (reason(data.get("done_reason")) or "stop") if self.is_done else None,
                self.usage(_counts(data)) if self.is_done else None,
                raw=data,
            )
        ]

    def whole(self, data: dict[str, Any]) -> list[ChatDelta] | None:
        return self.chunk("message", data) if "done" in data else None

    def message(self, index: int, completion: ChatCompletion) -> Any:  # noqa: ARG002
        message = self._message.built(())
        return {**message, "content": message["content"] or "", **self._of_calls()}

    def _of_calls(self) -> dict[str, Any]:
        return {"tool_calls": self._calls} if self._calls else {}

    def _take_members(self, message: dict[str, Any]) -> None:
        for name, value in message.items():
            if not value or name in ("content", "tool_calls"):
                continue
            self._message.take_member(name, value)
            self.other_output += name not in ("role", "thinking")
            if name not in _KNOWN:
                self.note_unknown(f"message.{name}")

    def _call(self, call: dict[str, Any]) -> ToolCall | None:
        """Return a call, which always comes whole; None for a repetition."""
        function, call_id = table(call.get("function")), text(call.get("id")) or None
        if self._message.calls.knows(call_id):
            return None
        given = function.get("arguments")
        self._calls.append(call)
        return self._message.calls.fragment(
            None,
            call_id,
            text(function.get("name")),
            "{}" if given is None else as_json(given),
        )


def _counts(data: dict[str, Any]) -> dict[str, Any]:
    return {n: each for n, each in data.items() if n.endswith(("_count", "_duration"))}


OLLAMA = Dialect(name="ollama", parser=_OllamaParser, is_ndjson=True)
