"""The message of one choice, in the provider's form for the next turn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resilient_requests.chat.kinds._calls import Calls
from resilient_requests.chat.kinds._parts import (
    FIXED,
    Said,
    add_part,
    grow,
    grow_text,
    joined,
    said,
    whole,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from resilient_requests.chat._types import ToolCall

__all__ = ["Message"]

_NOTHING = Said()


class Message:
    """The message of one choice so far; belongs to one parser.

    ``content`` is its text so far, a piece per delta. ``members`` are the message's other members.
    """

    def __init__(self) -> None:
        self.calls = Calls()
        self.contradiction: str | None = None
        self.content: list[str] = []
        self.members: dict[str, Any] = {"role": "assistant"}
        self._parts: list[Any] = []  # the content, once a list of parts has come
        self._of_calls: dict[int, dict[str, Any]] = {}

    @property
    def is_plain(self) -> bool:
        """True if the content is plain text, without parts."""
        return not self._parts

    def take_content(self, value: object) -> Said:
        """Add a text, or parts of one, and return its words."""
        if not value:
            return _NOTHING
        found = said(value)
        is_list = isinstance(value, list)
        if is_list and not self._parts and self.content:
            self._parts.append({"type": "text", "text": joined(self.content)})
        if is_list or (value and self._parts):
            for part in value if isinstance(value, list) else [{"type": "text", "text": value}]:
                add_part(self._parts, part)
        if found.content:
            self.content.append(found.content)
        return found

    def take_member(self, name: str, value: Any) -> None:
        """Add a piece of another member."""
        if value.__class__ is str and name not in FIXED:
            grow_text(self.members, name, value)
        else:
            grow(self.members, {name: value})

    def take_of_call(self, index: int, members: dict[str, Any]) -> None:
        """Add the members of a call beside its id, name and arguments."""
        if members:
            grow(self._of_calls.setdefault(index, {}), members)

    def missing(self, message: dict[str, Any]) -> dict[str, Any]:
        """Return the parts of a whole message that no delta has brought."""
        told = said(message.get("content")).content
        if not self.content and not self.calls:
            return message
        if self.contradiction is not None:
            return {}
        rest: dict[str, Any] = {}
        if told.strip():
            shown = joined(self.content)
            if not told.startswith(shown.rstrip()):
                self.contradiction = "the whole message has another text than its deltas"
                return {}
            rest["content"] = told[len(shown) :]
        return rest if self.calls else {**rest, "tool_calls": message.get("tool_calls")}

    def built(self, calls: Iterable[ToolCall]) -> dict[str, Any]:
        """Return the message with these calls."""
        members = whole(self.members)
        content = whole(self._parts) if self._parts else joined(self.content)
        sent = [{**_sent(each), **whole(self._of_calls.get(each.index, {}))} for each in calls]
        if "function_call" in members:
            members["function_call"] = sent[0]["function"] if sent else None
        elif sent:
            members["tool_calls"] = sent
        # The APIs accept a null content only beside one of these members.
        is_elsewhere = members.keys() & {"audio", "function_call", "refusal", "tool_calls"}
        return {
            "role": members.pop("role"),
            "content": content or (None if is_elsewhere else ""),
            **members,
        }


def _sent(call: ToolCall) -> dict[str, Any]:
    """Return a call in the form of a request."""
    member = "input" if call.kind == "custom" else "arguments"
    return {
        "id": call.id,
        "type": call.kind,
        call.kind: {"name": call.name, member: call.arguments},
    }
