"""Bytes of a body that have arrived and are not handed out: one cursor for all loops; no I/O."""

from __future__ import annotations

from collections import deque

__all__ = ["Unread"]

# Bytes before the cursor that are kept until it is worth moving the rest.
_COMPACT = 64 * 1024
_SHORT = 4096  # bytes; a second copy of so few does not matter


class Unread:
    """Takes pieces in, and returns chunks, blocks and lines; each byte once, in linear time."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._at = 0  # the cursor
        self._searched = 0  # there is no line end between the cursor and here
        self._ends: deque[int] = deque()  # positions at which chunks of the framing end
        self._behind_cr = False  # True: an LF that comes next is the rest of a used line end
        self._lines: list[bytes] = []  # the next lines, the last one first, each ended by an LF
        self._mixed = 0  # up to here some lines end with a CR, so each is searched for

    def __len__(self) -> int:
        return len(self._data) - self._at

    def __bool__(self) -> bool:
        return len(self._data) > self._at

    @property
    def is_behind_cr(self) -> bool:
        """True if an LF that comes next is the rest of a line end that has been used."""
        return self._behind_cr

    def add(self, piece: bytes, *, ends_chunk: bool) -> None:
        """Take in a piece of one chunk."""
        self._data += piece
        if ends_chunk:
            self.end_chunk()

    def end_chunk(self) -> bool:
        """A chunk of the framing ends here; return True if there are bytes of it."""
        has_any = len(self._data) > (self._ends[-1] if self._ends else self._at)
        if has_any:
            self._ends.append(len(self._data))
        return has_any

    def clear(self) -> None:
        """Forget all bytes."""
        self._data, self._at, self._searched, self._mixed = bytearray(), 0, 0, 0
        self._ends.clear()
        self._lines.clear()

    def take_all(self) -> bytes:
        """Return all bytes."""
        if self._behind_cr:
            self._skip_lf()
        return self._take(len(self._data))

    def take_chunk(self) -> bytes | None:
        """Return the rest of one whole chunk of the framing; None if none is whole."""
        self._skip_lf()
        return self._take(self._ends[0]) if self._ends else None

    def take_block(self, size: int, *, partial: bool) -> bytes | None:
        """Return ``size`` bytes, fewer at the end of a chunk; None if there are too few.

        ``partial``: fewer are returned anyway, if there are any.
        """
        self._skip_lf()
        end = self._at + size
        if self._ends and self._ends[0] <= end:
            return self._take(self._ends[0])
        if end <= len(self._data) or (partial and self):
            return self._take(min(end, len(self._data)))
        return None

    def take_line(self, is_over: bool = False) -> bytes | None:
        """Return a line without its end (LF, CR or CRLF); None if no line has ended.

        ``is_over``: nothing more comes, so the rest is a line too.
        """
        if self._behind_cr:
            self._skip_lf()
        if self._at == len(self._data):
            return None
        if not (self._lines or self._split_lines()):
            return self._search_line(is_over)
        try:
            line = self._lines.pop()
            if self._lines:
                self._at = self._searched = self._at + len(line) + 1
            else:
                self._move(self._at + len(line) + 1)
        except BaseException:  # a signal handler's, between the two: the line is still there
            self._lines.clear()
            raise
        return line

    def _split_lines(self) -> bool:
        """Find all lines that have arrived; False if there are none, or any CR among them.

        In a burst, a search for each would take as long as all else.
        """
        data, at = self._data, self._at
        if at < self._mixed or self._ends:
            return False
        last = data.rfind(b"\n", self._searched)
        if last < 0:
            return False
        if data.find(b"\r", at, last) >= 0:
            self._mixed = last
            return False
        lines = self._copy(last).split(b"\n")
        lines.reverse()
        self._lines = lines
        return True

    def _search_line(self, is_over: bool) -> bytes | None:
        data, at = self._data, self._at
        newline = data.find(b"\n", self._searched)
        carriage = data.find(b"\r", self._searched, newline if newline >= 0 else len(data))
        end = carriage if carriage >= 0 else newline
        if end < 0:
            self._searched = len(data)
            return (self.take_all() or None) if is_over else None
        line = bytes(data[at:end]) if end - at < _SHORT else self._copy(end)
        if end == carriage:
            # A CR ends the line at once. An LF after it, now or in the next piece, belongs to it.
            self._behind_cr = True
            self._move(end + 1)
            self._skip_lf()
        elif end + 1 < len(data) and end < _COMPACT and not self._ends:
            self._at = self._searched = end + 1
        else:
            self._move(end + 1)
        return line

    def take_until(self, delimiter: bytes) -> bytes | None:
        """Return the bytes up to a delimiter, and skip the delimiter; None without one."""
        self._skip_lf()
        at = self._data.find(delimiter, self._searched)
        if at < 0:
            self._searched = max(len(self._data) - len(delimiter) + 1, self._at)
            return None
        found = self._copy(at)
        self._move(at + len(delimiter))
        return found

    def _skip_lf(self) -> None:
        if self._behind_cr and self:
            self._behind_cr = False
            if self._data[self._at] == 0x0A:
                self._move(self._at + 1)

    def _take(self, end: int) -> bytes:
        taken = self._copy(end)
        self._move(end)
        return taken

    def _copy(self, end: int) -> bytes:
        with memoryview(self._data) as view:  # a slice of a bytearray would be one more copy
            return bytes(view[self._at : end])

    def _move(self, at: int) -> None:
        self._lines.clear()
        ends = self._ends
        while ends and ends[0] <= at:
            ends.popleft()
        if at == len(self._data):
            self._data, at, self._mixed = bytearray(), 0, 0
        elif at > _COMPACT and at > len(self._data) // 2:
            del self._data[:at]
            self._mixed = max(self._mixed - at, 0)
            self._ends = deque(end - at for end in ends)
            at = 0
        self._at = self._searched = at
