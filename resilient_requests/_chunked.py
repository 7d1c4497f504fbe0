"""Bytes of a chunked body in, its content out (RFC 9112 7.1); no I/O."""

from __future__ import annotations

import re

__all__ = ["ChunkedDecoder", "ChunkedError"]

_LONGEST_LINE = 64 * 1024
_SIZE = re.compile(rb"[ \t]*([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?\r?", re.DOTALL)


class ChunkedError(ValueError):
    """The bytes are no chunked body; carries no more than the reason."""


class ChunkedDecoder:
    """Decodes all chunks that a read brought in one go; one body, one thread.

    ``is_done``: the last chunk and the trailers were seen. ``rest``: bytes after those, which belong to nobody.
    """

    def __init__(self) -> None:
        self.is_done = False
        self._buffer = b""
        self._left = 0  # of the chunk that is being read
        self._in_trailers = False
        self._after_data = False  # the line end behind a chunk's data is due

    @property
    def rest(self) -> bytes:
        return self._buffer if self.is_done else b""

    @property
    def is_complete(self) -> bool:
        """Whether the peer may leave now: servers were seen that leave out the last line end."""
        return self.is_done or self._in_trailers

    def feed(self, data: bytes) -> bytes:
        """Return the content in ``data``. Raises `ChunkedError` on a malformed size, line end or endless line."""
        content: list[bytes] = []
        if self._buffer:
            data = self._buffer + data
        at, end = 0, len(data)
        while at < end and not self.is_done:
            if self._left:
                piece = data[at : at + self._left]
                content.append(piece)
                at += len(piece)
                self._left -= len(piece)
                self._after_data = not self._left
                continue
            newline = data.find(b"\n", at)
            if newline < 0:
                if end - at > _LONGEST_LINE:
                    raise ChunkedError("a line of the chunked framing has no end")
                break
            self._line(data, at, newline)
            at = newline + 1
        self._buffer = data[at:]
        return content[0] if len(content) == 1 else b"".join(content)

    def _line(self, data: bytes, at: int, newline: int) -> None:
        if self._after_data:
            if data[at:newline] not in (b"\r", b""):
                raise ChunkedError("a chunk is longer than its size")
            self._after_data = False
        elif self._in_trailers:
            self.is_done = data[at:newline] in (b"\r", b"")
        else:
            size = _SIZE.fullmatch(data, at, newline)
            if size is None:
                raise ChunkedError("a chunk has no size")
            self._left = int(size[1], 16)
            self._in_trailers = not self._left
