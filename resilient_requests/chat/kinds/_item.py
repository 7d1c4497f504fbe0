"""One item of an output: its family, its texts, and what was shown of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resilient_requests.chat._types import ToolCall
from resilient_requests.chat.kinds._members import as_json, table, text
from resilient_requests.chat.kinds._parts import said
from resilient_requests.chat.kinds._shown import Shown, is_same_json

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Item", "family_of", "texts_of"]

# The items that the caller has to answer: their kind, and the members that may hold their input.
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


# What an item goes by: not all servers repeat that when it is done.
_NAMES = ("type", "id", "call_id", "name")


def family_of(raw: dict[str, Any]) -> str:
    """Return "message", "reasoning", "call" for what the caller has to answer, or "other"."""
    kind = text(raw.get("type"))
    if kind in ("message", "reasoning"):
        return kind
    # What runs in the provider's own house is nobody's call.
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
    """One item of an output: ``raw`` as the provider sent it last, and what was shown of it."""

    __slots__ = ("_head", "_number", "family", "id", "raw", "shown")

    def __init__(self, family: str) -> None:
        self.family = family
        self.id: str | None = None
        self.raw: dict[str, Any] = {}
        self.shown: dict[str, Shown] = {}
        self._number: int | None = None  # of the call that it is
        self._head: tuple[str | None, str | None] = (None, None)  # id and name, as they were told

    def take(self, raw: dict[str, Any]) -> None:
        """Take the object that the provider sent, in the place of an earlier one."""
        kept = {name: self.raw[name] for name in _NAMES if name in self.raw}
        self.raw = {**kept, **raw}

    def of(self, kind: str) -> Shown:
        """Return what was shown of one kind of its texts."""
        found = self.shown.get(kind)
        if found is None:
            found = self.shown[kind] = Shown()
        return found

    def says(self, texts: Mapping[str, str]) -> bool:
        """Whether these whole texts, by kind, can be those of which deltas were shown here."""
        pairs = [(texts.get(kind, ""), str(shown)) for kind, shown in self.shown.items()]
        return any(shown for _, shown in pairs) and all(
            whole.startswith(shown) or is_same_json(whole, shown) for whole, shown in pairs
        )

    def is_other_than(self, raw: Mapping[str, Any]) -> bool:
        """Whether two calls cannot be the same: their ids are never made anew, nor their names."""
        return any(
            raw.get(name) and self.raw.get(name) and raw[name] != self.raw[name]
            for name in ("call_id", "name", "type")
        )

    def fragment(self, number: int, arguments: str) -> ToolCall | None:
        """Return what is new of a call, None for nothing; ``number``: where it has none yet."""
        is_new = self._number is None
        self._number = number if self._number is None else self._number
        kind, _ = _CALLS.get(text(self.raw.get("type")), ("function", ()))
        known_id, known_name = self._head
        # An approval is given to the item: it has no other id.
        id_of = "id" if kind == "mcp_approval" else "call_id"
        call_id = text(self.raw.get(id_of)) or None
        name = text(self.raw.get("name")) or None
        self._head = (known_id or call_id, known_name or name)
        call_id, name = None if known_id else call_id, None if known_name else name
        if not (is_new or call_id or name or arguments):
            return None
        return ToolCall(self._number, call_id, name, arguments, kind)

    def built(self) -> dict[str, Any] | None:
        """Return the item as the next turn has it, None where too little of it came."""
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
