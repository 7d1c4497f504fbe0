"""The framings of a body (RFC 9112 6.3): bytes in, content and the end of the body out; no I/O."""

from __future__ import annotations

import enum
import http.client
import re
from typing import Protocol

__all__ = ["ChunkFraming", "ChunkedError", "CloseFraming", "Framing", "LengthFraming"]

# The limit of http.client, for a size with its extensions, and for a trailer.
_LONGEST_LINE = 64 * 1024
_CR = 0x0D
_PLAIN_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})\r\n")
_SIZE = re.compile(rb"[ \t]*(0*[0-9A-Fa-f]{1,15})[ \t]*(?:;[^\n]*)?\r?\n")


class ChunkedError(http.client.HTTPException):
    """The bytes are no chunked body."""


class Framing(Protocol):
    """Takes the framing off the bytes of one body.

    ``is_over``: the framing says that the body has ended. ``may_end``: a FIN here cuts nothing.
    ``is_framed``: the framing tells the end of the body, not a FIN. ``ends_chunk``: the last piece
    of content ends a chunk. ``surplus``: bytes after the body. ``fault``: the bytes after the
    content so far are malformed. ``left``: the number of bytes still due, None if it is unknown.
    """

    is_over: bool
    may_end: bool
    is_framed: bool
    ends_chunk: bool
    surplus: bytes
    fault: ChunkedError | None

    @property
    def left(self) -> int | None: ...

    def feed(self, data: bytes) -> list[bytes]:
        """Return the content in ``data``, in pieces that each belong to one chunk."""


class CloseFraming:
    """No framing: a FIN ends the body."""

    is_over = is_framed = ends_chunk = False
    may_end = True
    surplus = b""
    fault: ChunkedError | None = None
    left: int | None = None

    def feed(self, data: bytes) -> list[bytes]:
        """Return the data unchanged."""
        return [data]


class LengthFraming:
    """A body of ``left`` bytes."""

    is_framed = True
    ends_chunk = False
    fault: ChunkedError | None = None

    def __init__(self, left: int) -> None:
        self.left: int = left
        self.is_over = self.may_end = not left
        self.surplus = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the data up to the length."""
        if len(data) > self.left:
            data, self.surplus = data[: self.left], data[self.left :]
        self.left -= len(data)
        self.is_over = self.may_end = not self.left
        return [data]


class _Due(enum.Enum):
    """The part that must come next."""

    SIZE = "size"
    DATA = "data"
    DATA_END = "end of a chunk's data"
    TRAILER = "trailer, or the end"


# Up to Python 3.11, looking up a member on its class takes as long as a call.
_SIZE_DUE = _Due.SIZE


class ChunkFraming:
    """A body in chunks (RFC 9112 7.1); it may begin inside one, with ``left`` bytes to come."""

    is_framed = True

    def __init__(self, left: int = 0) -> None:
        self.is_over = self.may_end = False
        self.ends_chunk = not left
        self.surplus = b""
        self.fault: ChunkedError | None = None
        self._held = b""  # the start of an unfinished line
        self._left = left
        self._due = _Due.DATA if left else _Due.SIZE

    @property
    def left(self) -> int | None:
        """The bytes to come of the present chunk; None between two chunks."""
        return self._left or None

    def feed(self, data: bytes) -> list[bytes]:
        """Return the content of all chunks in ``data``.

        A malformed line sets ``fault`` and ends the content.
        """
        size = len(data)
        if self._left > size:
            self._left -= size  # data only, as in most reads of a large chunk
            return [data]
        if self._held:
            data, self._held = self._held + data, b""
            size = len(data)
        pieces: list[bytes] = []
        at = 0
        while at < size:
            # A whole chunk in one step, as most events arrive: three would double their cost.
            if self._due is _SIZE_DUE and (found := _PLAIN_SIZE.match(data, at)) is not None:
                start = found.end()
                end = start + int(found[1], 16)
                if end > start and data[end : end + 2] == b"\r\n":
                    pieces.append(data[start:end])
                    at = end + 2
                    continue
            after = self._take_part(data, at, pieces)
            if self.is_over:
                self.surplus, after = data[after:], size
            elif after == at:
                break
            at = after
        self.ends_chunk = not self._left
        self._held = data[at:]
        return pieces

    def _take_part(self, data: bytes, at: int, pieces: list[bytes]) -> int:
        """Take a chunk's data, or a line, from ``at`` on, and return the place behind it.

        That is ``at`` if the line is unfinished, or malformed.
        """
        if self._due is _Due.DATA:
            piece = data[at : at + self._left]
            pieces.append(piece)
            self._left -= len(piece)
            if not self._left:
                self._due = _Due.DATA_END
            return at + len(piece)
        newline = data.find(b"\n", at)
        if newline - at >= _LONGEST_LINE or (newline < 0 and len(data) - at >= _LONGEST_LINE):
            self.fault = ChunkedError("a line of the chunked framing is too long")
        elif newline >= 0:
            self._take_line(data, at, newline)
        return at if newline < 0 or self.fault is not None else newline + 1

    def _take_line(self, data: bytes, at: int, newline: int) -> None:
        if self._due is _Due.SIZE:
            if (found := _SIZE.match(data, at)) is None:
                self.fault = ChunkedError("a chunk has no size")
            elif left := int(found[1], 16):
                self._left, self._due = left, _Due.DATA
            else:
                # Servers were seen that leave out the last CRLF: a FIN after the last chunk is an
                # end.
                self._due, self.may_end = _Due.TRAILER, True
        elif self._due is _Due.TRAILER:
            self.is_over = data[at:newline] in (b"\r", b"")
        elif newline == at + 1 and data[at] == _CR:
            self._due = _Due.SIZE
        else:
            # RFC 9112 7.1: a chunk's data is followed by CRLF. A bare LF here means that its CR was
            # taken as data: the size was one too large.
            self.fault = ChunkedError("a chunk is not as long as its size says")
