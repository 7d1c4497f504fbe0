"""A text that deltas have shown, and the part that a repetition of it adds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resilient_requests.chat.kinds._json import loads
from resilient_requests.chat.kinds._members import position
from resilient_requests.chat.kinds._parts import joined

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ["Contradiction", "Shown", "is_same_json"]


class Contradiction(Exception):
    """The final text is not the text that the deltas have shown."""


class Shown:
    """A text shown by deltas; finds the part of a repetition that is new."""

    __slots__ = ("_pieces", "_settled", "_told")

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._settled: dict[str, int] = {}  # by level, the length that was repeated
        self._told: set[Hashable] = set()

    def __str__(self) -> str:
        if len(self._pieces) > 1:
            self._pieces = [joined(self._pieces)]
        return self._pieces[0] if self._pieces else ""

    def add(self, piece: str) -> str:
        """Show one more piece."""
        self._pieces.append(piece)
        return piece

    def of_part(self, level: str, part: Hashable, said: str, between: str = "") -> str:
        """Show the new part of a text that comes as a whole, and return it; ``level``: the event.

        ``between`` stands between two parts. Raises `Contradiction` if the deltas had another text,
        and `BadChunkError` for more parts than any answer has.
        """
        shown, settled = str(self), self._settled.get(level, 0)
        is_known = (level, part) in self._told
        position(len(self._told), "part")
        self._told.add((level, part))
        if not said or (is_known and said in shown):
            return ""
        if between and shown.startswith(between, settled):
            settled += len(between)
        rest = shown[settled:]
        if said.startswith(rest):
            added = said[len(rest) :]
            if added:
                added = self.add(between + added if shown and not rest else added)
            self._settled[level] = len(shown) + len(added)
            return added
        if rest.startswith(said):
            self._settled[level] = settled + len(said)
        elif said not in shown and not is_same_json(said, rest):
            raise Contradiction
        return ""

    def of_item(self, said: str) -> str:
        """Show the new part of the item's whole text, and return it. Raises `Contradiction`."""
        shown = str(self)
        if not said.strip() or said.strip() == shown.strip() or is_same_json(said, shown):
            return ""
        if not said.startswith(shown):
            raise Contradiction
        return self.add(said[len(shown) :])


def is_same_json(one: str, other: str) -> bool:
    """Return True if two texts are the same JSON: gateways rewrite it with other white space."""
    if one[:1] not in ("{", "[") or other[:1] not in ("{", "["):
        return False
    try:
        return bool(loads(one) == loads(other))
    except (ValueError, RecursionError):
        return False
