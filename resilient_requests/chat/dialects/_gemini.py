"""Gemini, ``streamGenerateContent`` with ``alt=sse``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qs, quote, urlsplit, urlunsplit

from resilient_requests.chat._types import ChatDelta, ToolCall
from resilient_requests.chat.dialects._dialect import Dialect, Parser
from resilient_requests.chat.kinds import (
    Tokens,
    add_part,
    count,
    grow_at,
    items,
    position,
    reason,
    table,
    text,
    whole,
    words,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from resilient_requests.chat._types import ChatCompletion

__all__ = ["GEMINI"]

_BLOCKED = words(
    """
    SAFETY RECITATION BLOCKLIST PROHIBITED_CONTENT SPII IMAGE_SAFETY IMAGE_PROHIBITED_CONTENT
    IMAGE_RECITATION MODEL_ARMOR ESCALATION PUP_LIMITED_DISABLED
    """
)
_TOLD = frozenset({"text", "thought", "thoughtSignature", "functionCall"})
_OTHER_OUTPUT = words(
    """
    codeExecutionResult executableCode fileData inlineData mediaResolution partMetadata toolCall
    toolResponse videoMetadata
    """
)
_ANSWERS = frozenset({"candidates", "promptFeedback", "usageMetadata"})
_VALUES = ("stringValue", "numberValue", "boolValue")  # a fourth, nullValue, has one value only


class _Candidate:
    """What has come of one candidate."""

    def __init__(self) -> None:
        self.parts: list[dict[str, Any]] = []
        self.calls = 0
        self.ended: set[str | None] = set()  # ids of the calls that are whole
        self.open: dict[str, Any] | None = None  # a call whose arguments go on in the next chunk


class _GeminiParser(Parser):
    """Reads ``GenerateContentResponse`` objects; only the end of the stream follows the last."""

    tokens: ClassVar[Tokens] = Tokens(
        ("promptTokenCount", "toolUsePromptTokenCount"),
        ("candidatesTokenCount", "thoughtsTokenCount"),
        "totalTokenCount",
    )

    def __init__(self) -> None:
        super().__init__()
        self._found: dict[int, _Candidate] = {}

    def chunk(self, event: str, data: dict[str, Any]) -> list[ChatDelta] | None:  # noqa: ARG002
        self.begin(data, "responseId", "modelVersion")
        usage = self.usage(data.get("usageMetadata"))
        candidates = items(data.get("candidates"))
        if candidates:
            found = [self._candidate(each, data) for each in candidates]
            return [*found[:-1], found[-1]._replace(usage=usage)]
        blocked = text(table(data.get("promptFeedback")).get("blockReason")) or None
        if blocked:
            self.refused.add(0)
            self.is_done = True  # no candidate will come
        is_known = not _ANSWERS.isdisjoint(data)
        return [ChatDelta(finish_reason=blocked, usage=usage, raw=data)] if is_known else None

    def whole(self, data: dict[str, Any]) -> list[ChatDelta] | None:
        deltas = self.chunk("message", data)
        self.is_done |= any(delta.finish_reason for delta in deltas or ())
        return deltas

    def message(self, index: int, completion: ChatCompletion) -> Any:  # noqa: ARG002
        candidate = self._found.get(index)
        return {"role": "model", "parts": whole(candidate.parts)} if candidate else None

    def _candidate(self, candidate: dict[str, Any], raw: dict[str, Any]) -> ChatDelta:
        index = position(candidate.get("index") or 0, "candidate")
        self.choices.add(index)
        ours = self._found.setdefault(index, _Candidate())
        spoken: list[str] = []
        thought: list[str] = []
        calls: list[ToolCall] = []
        for part in items(table(candidate.get("content")).get("parts")):
            (thought if part.get("thought") else spoken).append(text(part.get("text")))
            if isinstance(part.get("functionCall"), dict):
                calls += self._call(ours, part)
            else:
                self._take(ours, part)
        finish = reason(candidate.get("finishReason"))
        finish = None if finish == "FINISH_REASON_UNSPECIFIED" else finish
        if finish in _BLOCKED:
            self.refused.add(index)
        if finish and ours.open is not None:
            self.contradiction = "a call was to go on, and did not"
        return ChatDelta("".join(spoken), "".join(thought), tuple(calls), finish, None, index, raw)

    def _take(self, ours: _Candidate, part: dict[str, Any]) -> None:
        """Keep a part for the message: as it is, but for a text that goes on with the last one."""
        for name in part.keys() - _TOLD:
            self.other_output += 1
            if name not in _OTHER_OUTPUT:
                self.note_unknown(f"part.{name}")
        is_plain = part.keys() <= {"text", "thought"}
        last = ours.parts[-1] if ours.parts else {}
        goes_on = last.keys() <= {"text", "thought"} and last.get("thought") == part.get("thought")
        if is_plain and last and goes_on:
            add_part(ours.parts, part)
        elif part.get("text") or not is_plain:
            ours.parts.append({**part})
            self.other_output += "thoughtSignature" in part

    def _call(self, ours: _Candidate, part: dict[str, Any]) -> list[ToolCall]:
        """Return what a part says of a call: its name at first, its arguments when it is whole."""
        given = part["functionCall"]
        call_id, name = text(given.get("id")) or None, text(given.get("name")) or None
        if call_id is not None and call_id in ours.ended:
            return []  # it was told before
        is_new = ours.open is None or (
            name is not None and (call_id, name) != (ours.open.get("id"), ours.open.get("name"))
        )
        if is_new:
            ours.open = {"name": name, "args": {}} | ({"id": call_id} if call_id else {})
            ours.parts.append({**part, "functionCall": ours.open})
            ours.calls = position(ours.calls, "tool call") + 1
        call: dict[str, Any] = ours.open or {}
        call["args"].update(table(given.get("args")))
        for piece in items(given.get("partialArgs")):
            value = next((piece[each] for each in _VALUES if each in piece), None)
            grow_at(call["args"], text(piece.get("jsonPath")), value)
        written = ""
        if given.get("willContinue") is not True:
            written = json.dumps(whole(call["args"]))
            ours.open = None
            ours.ended.add(call.get("id"))
        number = ours.calls - 1
        return [
            ToolCall(number, call_id, name, written)
            if is_new
            else ToolCall(number, arguments=written)
        ]


def _body(model: str, messages: Any, more: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG001
    return {"contents": messages, **more}


def _url(url: str, model: str) -> str:
    """Return the URL with ``{model}`` filled in, and ``alt=sse``: without it comes one array."""
    parts = urlsplit(url.replace("{model}", quote(model)))
    if "alt" in parse_qs(parts.query):
        return urlunsplit(parts)
    return urlunsplit(parts._replace(query=f"{parts.query}&alt=sse" if parts.query else "alt=sse"))


def _choices(body: Mapping[str, Any]) -> int:
    return count(table(body.get("generationConfig")).get("candidateCount")) or 1


GEMINI = Dialect(name="gemini", body=_body, parser=_GeminiParser, url=_url, choices=_choices)
