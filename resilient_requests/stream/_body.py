"""The body of one response over all loops that read it: its state, and its unread bytes."""

from __future__ import annotations

import enum
import threading
from typing import TYPE_CHECKING, Any

import requests
import urllib3

from resilient_requests.exceptions import Cancelled
from resilient_requests.stream._unread import Unread

if TYPE_CHECKING:
    from resilient_requests.transport import SocketReader

__all__ = ["Body", "BodyState", "ForeignBody"]

_LARGE = 64 * 1024


class BodyState(enum.Enum):
    """The progress of reading a body."""

    OPEN = "open"  # more may come
    ENDED = "ended"  # the framing said so
    FAILED = "failed"  # broken, idle or cancelled: each later read raises the same error
    CLOSED = "closed"  # closed before its end: a later read is an error, never an end
    DROPPED = "dropped"  # a loop over it was garbage-collected before the end


_NEXT = {
    BodyState.OPEN: frozenset(BodyState) - {BodyState.OPEN},
    BodyState.ENDED: frozenset(),
    BodyState.FAILED: frozenset(),
    BodyState.CLOSED: frozenset({BodyState.FAILED}),  # a reader in another thread raises
    BodyState.DROPPED: frozenset({BodyState.CLOSED, BodyState.FAILED}),
}


class Body:
    """The body of one response, over all loops that read it; one thread reads, any may ``close``.

    ``socket`` is None for a body without a socket of its own. ``reader`` is the number of readers
    so far; the last one reads. ``error`` is the one that ended the body. ``fault`` is the error
    below it, before the reader gave it a name.
    """

    socket: SocketReader | None = None
    is_chunked = False
    state = BodyState.OPEN
    reader = 0
    error: BaseException | None = None
    fault: BaseException | None = None
    _unread: Unread | None = None
    _has_begun = False  # True once content was handed out
    _closed_by: int | None = None  # id of the thread

    def __init__(self, raw: Any) -> None:
        self._raw = raw

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.state.value}>"

    @property
    def unread(self) -> Unread:
        """The bytes that a loop has received and not yet handed out."""
        if self._unread is None:
            self._unread = Unread()
        return self._unread

    def is_of(self, raw: Any) -> bool:
        """Return False if this is not the body of ``raw``: other code may replace a response's."""
        return self._raw is raw

    def refuse_used_up(self, *, is_first: bool) -> None:
        """Raise StreamConsumedError, as requests does, if the first loop finds nothing left."""
        if is_first and self.state is BodyState.ENDED and not self._unread:
            raise requests.exceptions.StreamConsumedError

    def attach(self) -> int:
        """Count one more reader, which reads from now on; return its number."""
        self.reader += 1
        return self.reader

    def read(self) -> bytes | None:
        """Return the next bytes, b"" at the end, None if bytes came that give no content yet."""
        if self._unread is None:
            return self._next(joined=True)
        if self._unread:
            return self._unread.take_all()
        content = self._next(joined=True)
        if content and self._unread.is_behind_cr:
            # A loop over lines has returned the line up to a CR: an LF now is the rest of that line
            # end.
            self._unread.add(content, ends_chunk=False)
            return self._unread.take_all() or None
        return content

    def receive(self, *, whole_chunks: bool) -> bytes | None:
        """Add the next bytes to ``unread``, and return them, as `read`.

        ``whole_chunks``: at most the bytes of one chunk of the framing; b"" also at the end of one.
        """
        content = self._next(joined=not whole_chunks)
        ends = whole_chunks and self._ends_chunk()
        if content:
            self.unread.add(content, ends_chunk=ends)
        elif content is None and ends and self.unread.end_chunk():
            return b""
        return content

    def _next(self, *, joined: bool) -> bytes | None:
        """Return the next bytes after ``unread``; of one chunk of the framing unless ``joined``."""
        raise NotImplementedError

    def _ends_chunk(self) -> bool:
        """Return True if the last bytes end a chunk of the framing."""
        return False

    def _give_up(self) -> None:
        """Close the connection in the middle of the body, and give its place in the pool back."""
        raise NotImplementedError

    def fail(self, error: BaseException, fault: BaseException | None) -> None:
        """End with an error, and close the connection.

        ``fault`` is the error below it, None if there is none.
        """
        self.error, self.fault = error, fault
        self._end(BodyState.FAILED)
        self._give_up()

    def close(self) -> None:
        """Close the connection if the body has not ended; harmless if repeated."""
        if self._end(BodyState.CLOSED):
            self._closed_by = threading.get_ident()
            self._give_up()

    def drop(self) -> None:
        """Close the socket only; for finalizers.

        Returning the connection to the pool would take the queue's lock, and a finalizer may run
        while this thread holds it.
        """
        if self._end(BodyState.DROPPED):
            self._raw.close()
            self._owe_place()

    @property
    def holds_place(self) -> bool:
        """True if other calls may wait for the place that this body has in its pool."""
        return False

    def _owe_place(self) -> None:
        """Let the pool take its place back at its next request."""

    def _end(self, state: BodyState) -> bool:
        """Enter a state; return False if the body cannot enter it any more."""
        if self._unread is not None and state is not BodyState.ENDED:
            self._unread.clear()
        if state not in _NEXT[self.state]:
            return False
        self.state = state
        return True

    def _when_over(self) -> bytes:
        """Return b"" at the end, or after a close by the thread that reads, as requests does.

        Raises the error that ended the body. A close by another thread, such as a timer's, is an
        error too: a cut body must not look whole.
        """
        if self.state is BodyState.ENDED:
            return b""
        if self.error is not None:
            raise self.error
        if self.socket is not None:
            self.socket.attempt.token.check()
        if self.state is BodyState.DROPPED:
            raise requests.exceptions.StreamConsumedError
        if self._closed_by == threading.get_ident() or not (self._has_begun or self._closed_by):
            return b""
        raise Cancelled("the response was closed before the end of its body")


class ForeignBody(Body):
    """The body of a response that has no socket here: a mock's, or one read in part."""

    def __init__(self, raw: Any, *, is_closed: bool = False) -> None:
        super().__init__(raw)
        if is_closed:
            self.state = BodyState.CLOSED

    def _next(self, *, joined: bool) -> bytes | None:  # noqa: ARG002  # no chunks are visible
        if self.state is not BodyState.OPEN:
            return self._when_over()
        # vcrpy's stand-in has a read1() as well, but a file's, which takes no keyword.
        is_urllib3s = isinstance(self._raw, urllib3.BaseHTTPResponse)
        has_read1 = is_urllib3s and hasattr(getattr(self._raw, "_fp", None), "read1")
        read1 = getattr(self._raw, "read1", None) if has_read1 else None
        data: bytes = (
            self._raw.read(_LARGE) if read1 is None else read1(_LARGE, decode_content=True)
        )
        self._has_begun = self._has_begun or bool(data)
        if not data:
            self._end(BodyState.ENDED)
        return data

    def _give_up(self) -> None:
        self._raw.close()
        getattr(self._raw, "release_conn", lambda: None)()
