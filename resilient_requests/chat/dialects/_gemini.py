"""Gemini, ``streamGenerateContent`` with ``alt=sse``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, urlsplit, urlunsplit

from resilient_requests.chat._types import ChatDelta, ToolCall, Usage
from resilient_requests.chat.dialects._dialect import Dialect, Parser
from resilient_requests.chat.dialects._members import count, items, position, table, text

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["GEMINI"]

_BLOCKED = frozenset({"SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII"})


class _GeminiParser(Parser):
    """Reads ``GenerateContentResponse`` objects; nothing but the end of the stream follows the last."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: dict[int, int] = {}  # candidate -> calls so far
        # Older models give every chunk a finish reason, and usage as well: more may follow, as late as the next chunk.
        self._brief, self.linger = self.linger, 2.0

    def chunk(self, event: str, data: dict[str, Any]) -> list[ChatDelta]:  # noqa: ARG002  # its events have no names
        self.id = text(data.get("responseId")) or self.id
        self.model = text(data.get("modelVersion")) or self.model
        usage = _usage(data.get("usageMetadata"))
        candidates = items(data.get("candidates"))
        blocked = text(table(data.get("promptFeedback")).get("blockReason"))
        if blocked and not candidates:
            self.refused.add(0)
            self.is_done = True  # no candidate will come
            return [ChatDelta(finish_reason=blocked, usage=usage, raw=data)]
        if not candidates:
            return [ChatDelta(usage=usage, raw=data)]
        last = len(candidates) - 1
        return [
            self._candidate(each, usage if n == last else None, data)
            for n, each in enumerate(candidates)
        ]

    def whole(self, data: dict[str, Any]) -> list[ChatDelta]:
        if not (data.keys() & {"candidates", "promptFeedback", "usageMetadata"}):
            return super().whole(data)
        deltas = self.chunk("message", data)
        self.is_done |= any(
            delta.finish_reason for delta in deltas
        )  # in one document nothing is missing
        return deltas

    def _candidate(
        self, candidate: dict[str, Any], usage: Usage | None, raw: dict[str, Any]
    ) -> ChatDelta:
        index = position(candidate.get("index") or 0, "candidate")
        self.choices.add(index)
        content, reasoning, calls = "", "", []
        for part in items(table(candidate.get("content")).get("parts")):
            if part.get("thought"):
                reasoning += text(part.get("text"))
            else:
                content += text(part.get("text"))
            if isinstance(part.get("functionCall"), dict):
                calls.append(self._call(index, part["functionCall"]))
        finish = text(candidate.get("finishReason")) or None
        if finish is None:
            self.linger = self._brief  # this model keeps it for the last chunk
        if finish in _BLOCKED:
            self.refused.add(index)
        return ChatDelta(content, reasoning, tuple(calls), finish, usage, index, raw)

    def _call(self, candidate: int, call: dict[str, Any]) -> ToolCall:
        number = position(self._calls.get(candidate, 0), "tool call")
        self._calls[candidate] = number + 1
        return ToolCall(
            number,
            text(call.get("id")) or None,
            text(call.get("name")) or None,
            json.dumps(call.get("args") or {}),
        )


def _usage(raw: object) -> Usage | None:
    if not isinstance(raw, dict) or not raw:
        return None
    read, written = count(raw.get("promptTokenCount")), count(raw.get("candidatesTokenCount"))
    return Usage(read, written, count(raw.get("totalTokenCount")), raw)


def _body(model: str, messages: Any, more: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG001  # the URL names the model
    return {"contents": messages, **more}


def _url(url: str, model: str) -> str:
    """Return the URL with ``{model}`` filled in and ``alt=sse``, without which the answer is one JSON array."""
    parts = urlsplit(url.replace("{model}", quote(model)))
    if "alt" in parse_qs(parts.query):
        return urlunsplit(parts)
    return urlunsplit(parts._replace(query=f"{parts.query}&alt=sse" if parts.query else "alt=sse"))


def _choices(body: Mapping[str, Any]) -> int:
    return count(table(body.get("generationConfig")).get("candidateCount")) or 1


GEMINI = Dialect(name="gemini", body=_body, parser=_GeminiParser, url=_url, choices=_choices)
