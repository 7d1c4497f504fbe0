"""Texts that come whole, as parts, or piece by piece, and the objects that grow by them."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from resilient_requests.chat.kinds._errors import BadChunkError
from resilient_requests.chat.kinds._members import position

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "BETWEEN",
    "FIXED",
    "Pieces",
    "Said",
    "add_part",
    "grow",
    "grow_at",
    "grow_text",
    "joined",
    "said",
    "whole",
]

BETWEEN = "\n\n"
"""Stands between two parts of a summary, because each is a paragraph."""

# The members of a part that hold its text. Those from "thinking" on hold reasoning.
_TEXTS = ("text", "content", "refusal", "thinking", "reasoning", "summary")
_REASONING = frozenset({"thinking", "reasoning", "summary"})
_KINDS_OF_REASONING = ("thinking", "reasoning", "thought", "summary")
FIXED = frozenset({"format", "id", "index", "model", "name", "role", "signature", "type"})
"""Members that a later piece of an object repeats, and does not continue."""
_MOST_DEPTH = 8
_MOST_STEPS = 64
_STEP = re.compile(r"\.?([^.\[\]'$]+)|\[(\d+)\]|\['([^']*)'\]")


def joined(pieces: Iterable[str]) -> str:
    """Return one text; the halves of a surrogate pair from two pieces become one character."""
    text = "".join(pieces)
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


class Said(NamedTuple):
    """The words of a text or of its parts; ``others``: the types of parts without text."""

    content: str = ""
    reasoning: str = ""
    refusal: str = ""
    others: tuple[str, ...] = ()


class _Reader:
    def __init__(self) -> None:
        self.content: list[str] = []
        self.reasoning: list[str] = []
        self.refusal: list[str] = []
        self.others: list[str] = []

    def read(self, value: object, into: list[str], depth: int = _MOST_DEPTH) -> None:
        if isinstance(value, str):
            into.append(value)
        elif isinstance(value, list) and depth:
            for each in value:
                self.read(each, into, depth - 1)
        elif isinstance(value, dict) and depth:
            self._read_part(value, into, depth - 1)

    def _read_part(self, part: dict[str, Any], into: list[str], depth: int) -> None:
        kind = part.get("type")
        if part.get("thought") is True or str(kind).startswith(_KINDS_OF_REASONING):
            into = self.reasoning
        names = [name for name in _TEXTS if part.get(name)]
        if not names and not any(name in part for name in _TEXTS):
            self.others.append(kind if isinstance(kind, str) else "part")
        for name in names:
            if name == "summary" and isinstance(part[name], list):
                self._read_apart(part[name], depth)
            elif name == "refusal":
                self.read(part[name], self.refusal, depth)
            else:
                self.read(part[name], self.reasoning if name in _REASONING else into, depth)

    def _read_apart(self, entries: list[Any], depth: int) -> None:
        """Read the entries of a summary, each as a paragraph."""
        for number, entry in enumerate(entries):
            if number:
                self.reasoning.append(BETWEEN)
            self.read(entry, self.reasoning, depth)


def said(value: object, *, is_reasoning: bool = False) -> Said:
    """Return the words of a string, or of a list of parts in any provider's form."""
    if value.__class__ is str or not value:  # nearly always
        return (
            Said("", value or "") if is_reasoning else Said(value or "")  # type: ignore[arg-type]
        )
    reader = _Reader()
    reader.read(value, reader.reasoning if is_reasoning else reader.content)
    return Said(
        joined(reader.content),
        joined(reader.reasoning),
        joined(reader.refusal),
        tuple(reader.others),
    )


class Pieces(list[str]):
    """A growing text, joined once at its end, because each addition to a str copies it."""


def grow_text(into: dict[str, Any], name: str, piece: str) -> None:
    """Add a piece to a text that is a member of an object."""
    before = into.get(name)
    if before.__class__ is not Pieces:
        into[name] = before = Pieces([before] if isinstance(before, str) else [])
    before.append(piece)


def grow(into: dict[str, Any], piece: dict[str, Any], but: tuple[str, ...] = ()) -> None:
    """Add a piece to an object, without the members ``but``.

    Texts and lists get longer, objects grow, None adds nothing; any other value is replaced.
    """
    for name, value in piece.items():
        if name in but:
            continue
        before = into.get(name)
        if isinstance(value, str) and name not in FIXED:
            grow_text(into, name, value)
        elif isinstance(value, list):
            if before.__class__ is not list:
                into[name] = before = []
            for part in value:
                add_part(before, part)
        elif isinstance(value, dict):
            if not isinstance(before, dict):
                into[name] = before = {}
            grow(before, value)
        elif value is not None and (value != "" or not before):
            into[name] = value


def add_part(parts: list[Any], part: object) -> None:
    """Add a part to a list, or to the last part if it continues that one."""
    if not isinstance(part, dict):
        parts.append(part)
    elif parts and isinstance(parts[-1], dict) and _continues(parts[-1], part):
        grow(parts[-1], part)
    else:
        parts.append({})
        grow(parts[-1], part)


def _continues(last: dict[str, Any], part: dict[str, Any]) -> bool:
    """Return True if a part continues the last one: both have the same type, index and id."""
    if last.get("type") != part.get("type") or last.get("index") != part.get("index"):
        return False
    if part.get("id") not in (None, last.get("id")):
        return False
    return any(name in last for name in _TEXTS)


def grow_at(into: dict[str, Any], path: str, value: Any) -> None:
    """Set the value at a path such as ``$.rooms[0]['name']``; a text extends the text there.

    Raises `BadChunkError` for an impossible index, and for a path of too many steps.
    """
    steps: list[str | int] = [
        position(number, "argument") if number else name or quoted
        for name, number, quoted in _STEP.findall(path)
    ]
    if len(steps) > _MOST_STEPS:
        raise BadChunkError("a path of arguments is too long")
    place: Any = into
    for step, following in itertools.pairwise(steps):
        below: Any = [] if isinstance(following, int) else {}
        place = _at(place, step, below)
    if steps:
        last = steps[-1]
        before = _at(place, last, None)
        if isinstance(value, str):
            value = Pieces([*before, value] if isinstance(before, Pieces) else [value])
        place[last] = value


def _at(place: Any, step: str | int, default: Any) -> Any:
    """Return the value at a step; an empty place gets the default first."""
    if isinstance(place, list) and isinstance(step, int):
        place.extend([None] * (step + 1 - len(place)))
        if place[step] is None:
            place[step] = default
        return place[step]
    if isinstance(place, dict):
        return place.setdefault(str(step), default)
    raise BadChunkError("a path of arguments leads through a value")


def whole(value: Any) -> Any:
    """Return an object with the pieces of each text joined."""
    if isinstance(value, Pieces):
        return joined(value)
    if isinstance(value, list):
        return [whole(each) for each in value]
    if isinstance(value, dict):
        return {name: whole(each) for name, each in value.items()}
    return value
