"""Bytes of a chunked body in, its content out (RFC 9112 7.1); no I/O."""

from __future__ import annotations

import http.client
import re

__all__ = ["ChunkedDecoder", "ChunkedError"]

_LONGEST_LINE = 64 * 1024
_SIZE = re.compile(rb"[ \t]*(0*[0-9A-Fa-f]{1,15})[ \t]*(?:;[^\n]*)?\r?\n")


class ChunkedError(http.client.HTTPException):
    """The bytes are no chunked body; ``content`` is what came before the malformed line, ``rest`` begins with it."""

    def __init__(self, reason: str, content: bytes = b"", rest: bytes = b"") -> None:
        super().__init__(reason)
        self.content, self.rest = content, rest


class ChunkedDecoder:
    """Decodes all chunks that a read brought in one go; one body, one thread.

    ``left``: the bytes still to come of a chunk that was begun. ``is_done``: the last chunk and the trailers were seen.
    """

    def __init__(self, left: int = 0) -> None:
        self.is_done = False
        self._held = b""  # an unfinished line
        self._left = left  # of the chunk that is being read
        self._in_trailers = False
        self._after_data = False  # the line end behind a chunk's data is due

    @property
    def is_between_chunks(self) -> bool:
        """Whether all that was fed belongs to whole chunks."""
        return not self._left

    @property
    def rest(self) -> bytes:
        """The bytes after the body, which belong to nobody."""
        return self._held if self.is_done else b""

    @property
    def is_complete(self) -> bool:
        """Whether the peer may leave now: servers were seen that leave out the last line end."""
        return self.is_done or self._in_trailers

    def feed(self, data: bytes) -> bytes:
        """Return the content in ``data``. Raises `ChunkedError` on a malformed size, line end or endless line."""
        if self._left > len(data):
            self._left -= len(data)  # nothing but data: the common case of a large chunk
            self._after_data = True
            return data
        content: list[bytes] = []
        if self._held:
            data, self._held = self._held + data, b""
        at, end = 0, len(data)
        while at < end and not self.is_done:
            if self._left:
                piece = data[at : at + self._left]
                content.append(piece)
                at += len(piece)
                self._left -= len(piece)
                self._after_data = True
                continue
            newline = data.find(b"\n", at)
            if newline < 0:
                break
            try:
                self._line(data, at, newline)
            except ChunkedError as error:
                raise ChunkedError(str(error), b"".join(content), data[at:]) from None
            at = newline + 1
        if end - at > _LONGEST_LINE and not self.is_done:
            raise ChunkedError(
                "a line of the chunked framing has no end", b"".join(content), data[at:]
            )
        self._held = data[at:]
        return content[0] if len(content) == 1 else b"".join(content)

    def _line(self, data: bytes, at: int, newline: int) -> None:
        if self._after_data:
            # RFC 9112 7.1: CRLF, and nothing else, follows a chunk's data. A bare LF is the second
            # byte of a CR that belonged to the data: the size was one too large.
            if data[at:newline] != b"\r":
                raise ChunkedError("a chunk is not as long as its size says")
            self._after_data = False
        elif self._in_trailers:
            self.is_done = data[at:newline] in (b"\r", b"")
        else:
            size = _SIZE.match(data, at)
            if size is None:
                raise ChunkedError("a chunk has no size")
            self._left = int(size[1], 16)
            self._in_trailers = not self._left
