"""What a chat call hands over: immutable, the same for every provider."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ChatCompletion", "ChatDelta", "ToolCall", "Usage"]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool, or in a `ChatDelta` a fragment of one: fragments of the same ``index`` belong together.

    ``arguments`` is text, JSON once the answer is complete; "" is valid. ``id`` and ``name`` are None where the
    provider gave none; in fragments they come with the first.
    """

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """The tokens that a call took, None where the provider does not say; ``raw`` is the provider's own object."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)


class ChatDelta(NamedTuple):
    """What one chunk added to one choice of the answer (``index``); immutable.

    ``content`` and ``reasoning`` are "" where the chunk had none; the text of a refusal is content. ``raw`` is the
    chunk as the provider sent it, with whatever else it says. A tuple, because making a frozen dataclass would take
    a third of the time that a chunk takes.
    """

    content: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str | None = None
    usage: Usage | None = None
    index: int = 0  # type: ignore[assignment]  # hides tuple.index(), which nobody misses here
    raw: Mapping[str, Any] = {}  # shared, but a Mapping: nobody writes to it

    def __repr__(self) -> str:
        # Without ``raw``: some providers repeat the instructions in their chunks, and a repr ends up in logs.
        shown = zip(self._fields[:-1], self, strict=False)
        return f"ChatDelta({', '.join(f'{name}={value!r}' for name, value in shown)})"


@dataclass(frozen=True, slots=True)
class ChatCompletion:
    """An answer, whole or so far.

    ``tool_calls`` are there only when the answer has come to its end: until then their arguments may be the
    beginning of others. ``truncated``: it ended without the sign that it was complete, or the arguments of a
    call are no JSON. ``attempts``: what each attempt of the call did, as on an error. ``alternatives``: the other
    choices, where several were asked for.
    """

    content: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str | None = None
    usage: Usage | None = None
    model: str | None = None
    id: str | None = None
    truncated: bool = False
    attempts: tuple[Any, ...] = ()
    alternatives: tuple[ChatCompletion, ...] = ()
