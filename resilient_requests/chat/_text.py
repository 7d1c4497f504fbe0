"""The text of an answer, without whatever else comes with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from resilient_requests.chat._types import ChatDelta

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from typing_extensions import Self

__all__ = ["TextStream", "joined"]


def joined(pieces: Iterable[str]) -> str:
    """Return one text; a character whose halves (UTF-16 surrogates) came in two pieces is one again."""
    text = "".join(pieces)
    return (
        text
        if text.isascii()
        else text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    )


class Deltas(Protocol):
    """What a `TextStream` reads: the deltas of an answer, and heartbeats."""

    def __iter__(self) -> Iterator[object]: ...
    def close(self) -> None: ...


class TextStream:
    """Iterates over the texts of the first choice; see `ChatStream.iter_text`.

    An object and no generator: after an error every further step raises it again, and ``close()`` closes the stream.
    """

    def __init__(self, stream: Deltas) -> None:
        self._stream = stream
        self._half = ""  # of a character, whose other half has not come yet

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        for delta in self._stream:
            if isinstance(delta, ChatDelta) and delta.content and delta.index == 0:
                text = joined((self._half, delta.content)) if self._half else delta.content
                self._half = text[-1] if "\ud800" <= text[-1] < "\udc00" else ""
                if text := text.removesuffix(self._half):
                    return text
        last, self._half = self._half, ""
        if last:
            return last
        raise StopIteration

    def close(self) -> None:
        """Close the stream; harmless when repeated."""
        self._half = ""
        self._stream.close()
