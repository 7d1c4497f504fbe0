"""One item of an output: its family, its texts, and the part that deltas have shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resilient_requests.chat._types import ToolCall
from resilient_requests.chat.kinds._members import as_json, table, text
from resilient_requests.chat.kinds._parts import said
from resilient_requests.chat.kinds._shown import Shown, is_same_json

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Item", "family_of", "texts_of"]

# The items that the caller has to answer: their kind, and the members that may hold the input.
_CALLS: dict[str, tuple[str, tuple[str, ...]]] = {
    "function_call": ("function", ("arguments",)),
    "custom_tool_call": ("custom", ("input",)),
    "local_shell_call": ("local_shell", ("action",)),
    "shell_call": ("shell", ("action",)),
    "apply_patch_call": ("apply_patch", ("operation",)),
    "computer_call": ("computer", ("actions", "action")),
    "mcp_approval_request": ("mcp_approval", ("arguments",)),
    "tool_search_call": ("tool_search", ("arguments",)),
}


# The members that identify an item. Some servers omit them in its last event.
_NAMES = ("type", "id", "call_id", "name")


def family_of(raw: dict[str, Any]) -> str:
    """Return "message", "reasoning", "call" (for the caller to answer) or "other"."""
    kind = text(raw.get("type"))
    if kind in ("message", "reasoning"):
        return kind
    # A tool that the provider runs itself is not a call to the user.
    is_hosted = raw.get("execution") == "server" or text(
        table(raw.get("environment")).get("type")
    ).startswith("container")
    return "call" if kind in _CALLS and not is_hosted else "other"


def texts_of(raw: dict[str, Any]) -> dict[str, str]:
    """Return the whole texts of an item by their kind: text, refusal, reasoning, summary, input."""
    family = family_of(raw)
    if family == "call":
        _, members = _CALLS[raw["type"]]
        given = next((raw[name] for name in members if raw.get(name) is not None), None)
        return {"input": as_json(given)}
    if family == "message":
        spoken = said(raw.get("content"))
        return {"text": spoken.content, "refusal": spoken.refusal}
    if family == "reasoning":
        summary = said({"type": "summary", "summary": raw.get("summary")})
        content = said(raw.get("content"), is_reasoning=True)
        return {"summary": summary.reasoning, "reasoning": content.reasoning}
    return {}


class Item:
    """One item of an output: ``raw`` is the latest object of the provider, ``shown`` its texts."""

    __slots__ = ("_head", "_number", "family", "id", "raw", "shown")

    def __init__(self, family: str) -> None:
        self.family = family
        self.id: str | None = None
        self.raw: dict[str, Any] = {}
        self.shown: dict[str, Shown] = {}
        self._number: int | None = None  # the number of its call
        self._head: tuple[str | None, str | None] = (None, None)  # id and name as shown so far

    def take(self, raw: dict[str, Any]) -> None:
        """Take the provider's object in place of an earlier one."""
        kept = {name: self.raw[name] for name in _NAMES if name in self.raw}
        self.raw = {**kept, **raw}

    def of(self, kind: str) -> Shown:
        """Return the shown text of one kind."""
        found = self.shown.get(kind)
        if found is None:
            found = self.shown[kind] = Shown()
        return found

    def says(self, texts: Mapping[str, str]) -> bool:
        """Return True if the shown deltas can be the beginning of these whole texts, by kind."""
        pairs = [(texts.get(kind, ""), str(shown)) for kind, shown in self.shown.items()]
        return any(shown for _, shown in pairs) and all(
            whole.startswith(shown) or is_same_json(whole, shown) for whole, shown in pairs
        )

    def is_other_than(self, raw: Mapping[str, Any]) -> bool:
        """Return True if two calls differ: servers change item ids, but never these members."""
        return any(
            raw.get(name) and self.raw.get(name) and raw[name] != self.raw[name]
            for name in ("call_id", "name", "type")
        )

    def fragment(self, number: int, arguments: str) -> ToolCall | None:
        """Return the news of a call, None if there is none; ``number``: for a call without one."""
        is_new = self._number is None
        self._number = number if self._number is None else self._number
        kind, _ = _CALLS.get(text(self.raw.get("type")), ("function", ()))
        known_id, known_name = self._head
        # An approval names the item itself, which has no ``call_id``.
        id_of = "id" if kind == "mcp_approval" else "call_id"
        call_id = text(self.raw.get(id_of)) or None
        name = text(self.raw.get("name")) or None
        self._head = (known_id or call_id, known_name or name)
        call_id, name = None if known_id else call_id, None if known_name else name
        if not (is_new or call_id or name or arguments):
            return None
        return ToolCall(self._number, call_id, name, arguments, kind)

    def built(self) -> dict[str, Any] | None:
        """Return the item in the form of the next turn, None if too little of it came."""
        raw = {**self.raw}
        if raw.get("status") == "in_progress":
            raw["status"] = "completed"
        texts = {kind: str(shown) for kind, shown in self.shown.items() if str(shown)}
        if self.family == "call":
            _, (member, *_) = _CALLS.get(text(raw.get("type")), ("", ("arguments",)))
            raw = {"type": "function_call", **raw}
            if not raw.get(member):
                raw[member] = texts.get("input", "")
        if self.family == "message" and not raw.get("content"):
            content = [
                {"type": "refusal", "refusal": each}
                if kind == "refusal"
                else {"type": "output_text", "text": each}
                for kind, each in texts.items()
            ]
            raw = {"type": "message", "role": "assistant", **raw, "content": content}
            return raw if content else None
        return raw if raw.get("type") else None
