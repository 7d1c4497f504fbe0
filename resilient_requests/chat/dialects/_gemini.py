"""Gemini, ``streamGenerateContent`` with ``alt=sse``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from resilient_requests.chat._types import ChatDelta, ToolCall
from resilient_requests.chat.dialects._dialect import Dialect, Parser, with_query
from resilient_requests.chat.kinds import (
    Calls,
    Tokens,
    count,
    grow_at,
    grow_text,
    items,
    position,
    reason,
    table,
    text,
    whole,
    words,
)

if TYPE_CHECKING:
    from resilient_requests.chat._types import ChatCompletion

__all__ = ["GEMINI"]

_BLOCKED = words(
    "SAFETY RECITATION BLOCKLIST PROHIBITED_CONTENT SPII IMAGE_SAFETY IMAGE_PROHIBITED_CONTENT "
    "IMAGE_RECITATION MODEL_ARMOR ESCALATION PUP_LIMITED_DISABLED"
)
_PLAIN = frozenset({"text", "thought"})
_KNOWN = words(
    "codeExecutionResult executableCode fileData functionCall inlineData mediaResolution "
    "partMetadata text thought thoughtSignature toolCall toolResponse videoMetadata"
)
_ANSWERS = frozenset({"candidates", "promptFeedback", "usageMetadata"})
_GOES_ON = "a call was announced to continue, and did not"


class _Candidate:
    """The state of one candidate; ``open`` is a call with arguments still to come."""

    def __init__(self) -> None:
        self.parts: list[dict[str, Any]] = []
        self.calls = Calls()
        self.open: dict[str, Any] | None = None


class _GeminiParser(Parser):
    """Reads ``GenerateContentResponse`` objects; no marker follows the last, only the end."""

    # Gemini counts thoughts beside the candidates, and results of tools beside the prompt.
    tokens = Tokens(
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
        blocked = reason(table(data.get("promptFeedback")).get("blockReason"))
        self.is_done = blocked is not None  # no candidate will come
        self.refused |= {0} if blocked else set()
        found = [ChatDelta(finish_reason=blocked, usage=usage, raw=data)]
        return None if _ANSWERS.isdisjoint(data) else found

    def whole(self, data: dict[str, Any]) -> list[ChatDelta] | None:
        deltas = self.chunk("message", data)
        self.is_done |= any(delta.finish_reason for delta in deltas or ())
        return deltas

    def message(self, index: int, completion: ChatCompletion) -> Any:  # noqa: ARG002
        candidate = self._found.get(index)
        return {"role": "model", "parts": whole(candidate.parts)} if candidate else None

    def _candidate(self, candidate: dict[str, Any], raw: dict[str, Any]) -> ChatDelta:
        # The JSON of Protocol Buffers leaves out a number that is 0.
        index = position(candidate.get("index") or 0, "candidate")
        self.choices.add(index)
        ours = self._found.get(index) or self._found.setdefault(index, _Candidate())
        parts = items(table(candidate.get("content")).get("parts"))
        spoken, calls = {False: "", True: ""}, list[ToolCall]()
        for part in parts:
            spoken[bool(part.get("thought"))] += text(part.get("text"))
            calls += self._take(ours, part)
        finish = reason(candidate.get("finishReason"))
        self.refused |= {index} if finish in _BLOCKED else set()
        if finish and ours.open is not None:
            self.contradiction = _GOES_ON
        return ChatDelta(spoken[False], spoken[True], tuple(calls), finish, None, index, raw)

    def _take(self, ours: _Candidate, part: dict[str, Any]) -> list[ToolCall]:
        """Keep a part for the message, text joined to the text before it; return its calls."""
        if part.keys() <= _PLAIN:
            last = ours.parts[-1] if ours.parts else {"functionCall": None}
            if last.keys() <= _PLAIN and last.get("thought") == part.get("thought"):
                grow_text(last, "text", text(part.get("text")))
            elif part.get("text"):
                ours.parts.append({**part})
            return []
        if isinstance(part.get("functionCall"), dict):
            return self._call(ours, part)
        self.other_output += 1
        for name in part.keys() - _KNOWN:
            self.note_unknown(f"part.{name}")
        ours.parts.append({**part})
        return []

    def _call(self, ours: _Candidate, part: dict[str, Any]) -> list[ToolCall]:
        """Return a part's news of a call: first the name, the arguments once they are whole."""
        given, call = part["functionCall"], ours.open
        call_id, name = text(given.get("id")) or None, text(given.get("name")) or None
        if call is None and ours.calls.knows(call_id):
            return []  # a repetition
        if call is None or (name and (call_id, name) != (call.get("id"), call["name"])):
            self.contradiction = self.contradiction if call is None else _GOES_ON
            call = {"name": name, "args": {}} | ({"id": call_id} if call_id else {})
            ours.parts.append({**part, "functionCall": call})
        else:
            call_id = name = None  # told already
        ours.open = call if given.get("willContinue") is True else None
        call["args"].update(table(given.get("args")))
        for piece in items(given.get("partialArgs")):
            values = (
                piece[each] for each in piece if each.endswith("Value") and each != "nullValue"
            )
            grow_at(call["args"], text(piece.get("jsonPath")), next(values, None))
        written = json.dumps(whole(call["args"])) if ours.open is None else ""
        return [ours.calls.fragment(None, call_id, name, written)]


GEMINI = Dialect(
    name="gemini",
    body=lambda model, messages, more: {"contents": messages, **more},  # noqa: ARG005
    parser=_GeminiParser,
    # Without ``alt=sse`` the answer is one JSON array, complete only at its end.
    url=lambda url, model: with_query(url.replace("{model}", quote(model)), "alt", "sse"),
    choices=lambda body: count(table(body.get("generationConfig")).get("candidateCount")) or 1,
)
