"""The results of chat calls: immutable, the same for every provider."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ChatCompletion", "ChatDelta", "ToolCall", "Usage", "new_delta"]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the caller has to answer; in a `ChatDelta` a fragment of one.

    Fragments of the same ``index`` belong together. ``id`` and ``name`` are None where the provider
    gave none; a fragment has only those that came with it. ``arguments`` is text, and may be "".
    For a function it is JSON once the answer is complete. ``kind`` is "function" or another kind of
    call: "custom" has free text as ``arguments``; "shell", "local_shell", "apply_patch",
    "computer", "mcp_approval" and "tool_search" come from OpenAI responses, with the provider's own
    input as JSON in ``arguments``.
    """

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""
    kind: str = "function"


@dataclass(frozen=True, slots=True)
class Usage:
    """The tokens that a call took; None where the provider does not say.

    ``input_tokens`` include tokens read from a cache or written to it, ``output_tokens`` those of
    reasoning. ``raw`` is the provider's own object.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)


class ChatDelta(NamedTuple):
    """The part that one chunk added to one choice of the answer (``index``); immutable.

    ``content`` and ``reasoning`` are "" where the chunk had none; the text of a refusal is content.
    ``raw`` is the chunk as the provider sent it, with all its other members: images, audio,
    citations, the provider's own tools. This is a tuple because the construction of a frozen
    dataclass would take a third of the time that a chunk takes.
    """

    content: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str | None = None
    usage: Usage | None = None
    index: int = 0  # type: ignore[assignment]  # hides tuple.index(), which has no use here
    raw: Mapping[str, Any] = {}  # shared by all, and nobody writes to a Mapping

    def __repr__(self) -> str:
        # Without ``raw``: some providers repeat the instructions in their chunks, and a repr ends
        # up in logs.
        shown = zip(self._fields[:-1], self, strict=False)
        return f"ChatDelta({', '.join(f'{name}={value!r}' for name, value in shown)})"


new_delta = partial(tuple.__new__, ChatDelta)
"""Makes a delta of its seven members; the constructor of a named tuple is Python code."""


@dataclass(frozen=True, slots=True)
class ChatCompletion:
    """An answer, whole or so far.

    ``tool_calls`` are empty until the answer has come to its end: before that, a call's arguments
    may be only the beginning of longer ones. ``truncated`` is True if the answer ended without its
    terminal marker, if a call's arguments are not JSON, or if the answer contradicts itself.
    ``attempts``: the record of each attempt of the call, as on an error. ``alternatives``: the
    other choices, if several were requested.

    ``message`` is the provider's own message, put together. Append it to ``messages`` as it is for
    the next turn. It is a dict, for OpenAI responses a list of output items, and None until the
    answer is complete. ``unknown`` counts the names of events and members that the dialect did not
    understand; at most 32 are kept.
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
