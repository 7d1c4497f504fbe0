"""What a chat call hands over: immutable, the same for every provider."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ChatCompletion", "ChatDelta", "ToolCall", "Usage"]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the caller has to answer, or in a `ChatDelta` a fragment of one.

    Fragments of the same ``index`` belong together. ``id`` and ``name`` are None where the provider
    gave none; a fragment has what came with it. ``arguments`` is text, "" is valid; of a function
    it is JSON once the answer is complete. ``kind`` is "function", or what else a provider lets a
    model call: "custom" (its ``arguments`` are free text), and from OpenAI responses "shell",
    "local_shell", "apply_patch", "computer", "mcp_approval" and "tool_search", whose ``arguments``
    are the provider's own input as JSON.
    """

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""
    kind: str = "function"


@dataclass(frozen=True, slots=True)
class Usage:
    """The tokens that a call took, None where the provider does not say.

    ``input_tokens`` include those read from a cache or written to it, ``output_tokens`` those of
    reasoning. ``raw`` is the provider's own object.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)


class ChatDelta(NamedTuple):
    """What one chunk added to one choice of the answer (``index``); immutable.

    ``content`` and ``reasoning`` are "" where the chunk had none; the text of a refusal is content.
    ``raw`` is the chunk as the provider sent it, with whatever else it says: images, audio,
    citations, the provider's own tools. A tuple, because making a frozen dataclass would take a
    third of the time that a chunk takes.
    """

    content: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str | None = None
    usage: Usage | None = None
    index: int = 0  # type: ignore[assignment]  # hides tuple.index(), which nobody misses here
    raw: Mapping[str, Any] = {}  # shared, but a Mapping: nobody writes to it

    def __repr__(self) -> str:
        # Without ``raw``: some providers repeat the instructions in their chunks, and a repr ends
        # up in logs.
        shown = zip(self._fields[:-1], self, strict=False)
        return f"ChatDelta({', '.join(f'{name}={value!r}' for name, value in shown)})"


@dataclass(frozen=True, slots=True)
class ChatCompletion:
    """An answer, whole or so far.

    ``tool_calls`` are there only when the answer has come to its end: until then their arguments
    may be the beginning of others. ``truncated``: it ended without the sign that it was complete,
    the arguments of a call are no JSON, or the answer contradicts itself. ``attempts``: what each
    attempt of the call did, as on an error. ``alternatives``: the other choices, where several were
    asked for.

    ``message`` is the provider's own message, put together, to be appended to ``messages`` as it is
    in the next turn: a dict, of OpenAI responses the list of their output items, and None until the
    answer is complete. ``unknown``: the names of events and members that the dialect did not
    understand, and how often each came; at most 32 are kept.
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
    message: Any = field(default=None, repr=False, hash=False)
    unknown: Mapping[str, int] = field(default_factory=dict, hash=False)
