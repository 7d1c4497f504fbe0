"""The loops of requests' users over a body: chunks, blocks, lines and text, even in turns."""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from resilient_requests.stream._body import BodyState
from resilient_requests.stream._reader import Reader
from resilient_requests.stream._unread import Unread

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Loop", "Take", "TextLineLoop", "TextLoop", "blocks", "chunks", "lines", "parts"]

Take = Callable[[Unread, bool], bytes | None]
"""Takes the next item out of the bytes that have arrived; None if more must come first.

The bool is True if nothing more comes.
"""


class LoopedResponse(Protocol):
    """A response that knows the loops over it."""

    def _begin_loop(self) -> bool:
        """A loop begins; return True for the first one."""

    def _end_loops(self) -> None:
        """A loop has come to the end of the body."""


class Loop:
    """An iterator over a body that holds no bytes: loops in turns go on where the last stopped.

    An object, since a generator would use the pool's lock when it is collected. ``closes``: the
    connection of a chunked body is closed if the loop is dropped. ``whole_chunks``: chunks of the
    framing matter. ``encoding`` of items that are decoded one by one; None leaves them as bytes.
    """

    # A signal handler's exception may end the constructor, and this object is finalized then.
    _closes = False
    _reader: Reader | None = None

    def __init__(
        self,
        response: LoopedResponse,
        take: Take,
        *,
        closes: bool = False,
        whole_chunks: bool = False,
        encoding: str | None = None,
    ) -> None:
        self._response = response
        self._take = take
        self._encoding = encoding
        self._closes = closes
        self._whole_chunks = whole_chunks

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        reader = self._reader or self._begin()
        unread, take = self._unread, self._take
        while (item := take(unread, False)) is None:
            reader.read(self._receive)
            if reader.body.state is BodyState.OPEN:
                continue
            if (item := take(unread, True)) is None:
                self._response._end_loops()
                raise StopIteration
            break
        return item if self._encoding is None else item.decode(self._encoding, "replace")

    def _begin(self) -> Reader:
        response: Any = self._response
        reader = Reader(response, legacy=True)
        reader.body.refuse_used_up(is_first=self._response._begin_loop())
        self._unread = reader.body.unread
        self._receive = partial(reader.body.receive, whole_chunks=self._whole_chunks)
        self._reader = reader
        return reader

    def close(self) -> None:
        """End the loop.

        As with requests, a chunked body ends with it; any other is left to the next reader.
        """
        self._take = _nothing
        if self._reader is not None and self._reader.body.is_chunked:
            self._reader.close()

    def throw(self, error: BaseException) -> NoReturn:
        """End the loop with an error, as a generator does."""
        self.close()
        raise error

    def __del__(self) -> None:
        reader = self._reader
        if reader is None or not reader.body.is_chunked:
            return
        if self._closes or reader.body.holds_place:
            reader.drop()


def _nothing(unread: Unread, is_over: bool) -> bytes | None:  # noqa: ARG001  # one signature
    raise StopIteration


def chunks(unread: Unread, is_over: bool) -> bytes | None:
    """Take a whole chunk of the framing, or the rest if nothing more comes."""
    if (chunk := unread.take_chunk()) is not None:
        return chunk
    return (unread.take_all() or None) if is_over else None


def parts(unread: Unread, is_over: bool) -> bytes | None:  # noqa: ARG001  # one signature
    """Take all bytes that are there."""
    return unread.take_all() or None


def blocks(size: int, *, is_prompt: bool) -> Take:
    """Return a function that takes blocks of ``size`` bytes, shorter at the end of a chunk.

    ``is_prompt``: shorter also if no more bytes have arrived.
    """

    def take(unread: Unread, is_over: bool) -> bytes | None:
        return unread.take_block(size, partial=is_prompt or is_over) or None

    return take


def lines(delimiter: bytes | None) -> Take:
    """Return a function that takes lines, or the pieces between delimiters, and then the rest."""
    if delimiter is None:
        return Unread.take_line

    def take(unread: Unread, is_over: bool) -> bytes | None:
        line = unread.take_until(delimiter)
        if line is None and is_over:
            return unread.take_all() or None
        return line

    return take


class TextLoop:
    """Decodes the items of a loop as requests does; a character may be cut anywhere."""

    def __init__(self, loop: Loop, encoding: str) -> None:
        self._loop = loop
        self._decoder = codecs.getincrementaldecoder(encoding)(errors="replace")

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        for item in self._loop:
            if piece := self._decoder.decode(item):
                return piece
        if piece := self._decoder.decode(b"", final=True):
            return piece
        raise StopIteration

    def close(self) -> None:
        """Close the loop."""
        self._loop.close()


class TextLineLoop:
    """The lines of text in an encoding that hides line ends from a search of bytes: UTF-16.

    Unlike the other loops, this one holds text: decoded characters cannot be put back as bytes.
    """

    def __init__(self, text: Iterator[str], delimiter: str | None) -> None:
        self._text = text
        self._delimiter = delimiter
        self._held: list[str] = []
        self._after_cr = False
        self._ready: deque[str] = deque()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        while not self._ready:
            piece = next(self._text, None)
            if piece is None:
                last, self._held = "".join(self._held), []
                if last:
                    return last
                raise StopIteration
            self._add(piece)
        return self._ready.popleft()

    def _add(self, piece: str) -> None:
        end = self._delimiter or "\n"
        if self._delimiter is None:
            # An LF after a CR is the second half of a line end that has been used.
            rest = piece[1:] if self._after_cr and piece[0] == "\n" else piece
            self._after_cr = piece[-1] == "\r"
            piece = rest.replace("\r\n", "\n").replace("\r", "\n")
        overlap = self._held[-1][-len(end) + 1 :] if self._held and len(end) > 1 else ""
        if end not in overlap + piece:
            # Pieces shorter than the delimiter are joined: it may be cut more than once.
            self._held = (
                ["".join(self._held) + piece] if len(piece) < len(end) else [*self._held, piece]
            )
            return
        *whole, last = ("".join(self._held) + piece).split(end)
        self._ready.extend(whole)
        self._held = [last] if last else []

    def close(self) -> None:
        """Close the loop below."""
        if isinstance(self._text, TextLoop):
            self._text.close()
