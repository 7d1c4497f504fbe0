"""The body of one response as it arrives: framing and content coding undone, and one state."""

from __future__ import annotations

import enum
import http.client
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

import requests
import urllib3

from resilient_requests.call import Attempt, Phase
from resilient_requests.exceptions import Cancelled
from resilient_requests.stream._coding import ContentDecoder
from resilient_requests.stream._framing import ChunkFraming, CloseFraming, LengthFraming
from resilient_requests.stream._unread import Unread
from resilient_requests.transport import RawResponse, SocketReader, is_bodiless, timed

if TYPE_CHECKING:
    from resilient_requests.stream._framing import Framing

__all__ = ["Body", "BodyState", "body_of", "is_rewired", "is_used"]

_SMALL, _LARGE = 16 * 1024, 64 * 1024


class BodyState(enum.Enum):
    """Where the reading of a body stands."""

    OPEN = "open"  # more may come
    ENDED = "ended"  # the framing said so
    FAILED = "failed"  # broken, idle, cancelled: the error is kept and raised again
    CLOSED = "closed"  # closed before its end: to read on is an error, never an end
    DROPPED = "dropped"  # a loop over it was dropped before its end


_NEXT = {
    BodyState.OPEN: frozenset(BodyState) - {BodyState.OPEN},
    BodyState.ENDED: frozenset(),
    BodyState.FAILED: frozenset(),
    BodyState.CLOSED: frozenset({BodyState.FAILED}),  # a reader in another thread notices
    BodyState.DROPPED: frozenset({BodyState.CLOSED, BodyState.FAILED}),
}


class Body:
    """The body of one response, over all loops that read it; owned by one thread, but for ``close``.

    ``state`` says where its reading stands; ``socket`` is None where there is none to speak of;
    ``reader`` counts the readers there were: the last one reads now. ``error`` has ended it, and
    ``fault`` is that error before a reader named it.
    """

    socket: SocketReader | None = None

    def __init__(self, raw: Any) -> None:
        self.state = BodyState.OPEN
        self.reader = 0
        self.error: BaseException | None = None
        self.fault: BaseException | None = None
        self._raw = raw
        self._unread: Unread | None = None
        self._has_begun = False  # content was handed out
        self._closed_by: int | None = None  # the thread

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.state.value}>"

    @property
    def unread(self) -> Unread:
        """The bytes that a loop has received and nobody was given."""
        if self._unread is None:
            self._unread = Unread()
        return self._unread

    def refuse_used_up(self, *, is_first: bool) -> None:
        """Raise StreamConsumedError, as requests does, where the first loop finds nothing left."""
        if is_first and self.state is BodyState.ENDED and not self._unread:
            raise requests.exceptions.StreamConsumedError

    def attach(self) -> int:
        """Have one more reader, which reads from now on; return its number."""
        self.reader += 1
        return self.reader

    def read(self) -> bytes | None:
        """Return the next bytes; b"" at the end, None where some came that give no content yet."""
        if self._unread is None:
            return self._next(joined=True)
        if self._unread:
            return self._unread.take_all()
        content = self._next(joined=True)
        if content and self._unread.is_behind_cr:
            # An LF that belongs to a line end of which a loop over lines had the CR.
            self._unread.add(content, ends_chunk=False)
            return self._unread.take_all() or None
        return content

    def receive(self, *, whole_chunks: bool) -> bytes | None:
        """Add the next bytes to ``unread``, and return them, as `read`.

        ``whole_chunks``: bytes of one chunk of the framing only; b"" also where one ends.
        """
        content = self._next(joined=not whole_chunks)
        ends = whole_chunks and self._ends_chunk()
        if content:
            self.unread.add(content, ends_chunk=ends)
        elif content is None and ends and self.unread.end_chunk():
            return b""
        return content

    def _next(self, *, joined: bool) -> bytes | None:
        """Return the next bytes past ``unread``; of one chunk of the framing only unless ``joined``."""
        raise NotImplementedError

    def _ends_chunk(self) -> bool:
        """Whether the bytes that came last end a chunk of the framing."""
        return False

    def _give_up(self) -> None:
        """Close the connection, which is in the middle of the body, and give its place back."""
        raise NotImplementedError

    def fail(self, error: BaseException, fault: BaseException | None) -> None:
        """End with an error, and the fault that it is the reader's name for; the connection is closed."""
        self.error, self.fault = error, fault
        self._end(BodyState.FAILED)
        self._give_up()

    def close(self) -> None:
        """Close the connection where the body has not ended; harmless when repeated."""
        if self._end(BodyState.CLOSED):
            self._closed_by = threading.get_ident()
            self._give_up()

    def drop(self) -> None:
        """Close the socket alone, for a finalizer: this thread may hold the lock of the pool's queue."""
        if self._end(BodyState.DROPPED):
            self._raw.close()

    def _end(self, state: BodyState) -> bool:
        """Go on to a state; return whether it is a new one."""
        if self._unread is not None:
            self._unread.clear()
        if state not in _NEXT[self.state]:
            return False
        self.state = state
        return True

    def _when_over(self) -> bytes:
        """Return b"" at the end, and for a body that the thread that reads it has closed, as requests does.

        Raises the error that has ended it. A body that another thread has closed, such as a timer's, is
        an error, too: it must not look like a whole one.
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


class SocketBody(Body):
    """Reads past http.client and urllib3, which hold bytes back and lose them on a cut.

    ``read`` raises TimeoutError when nothing came within the socket's limit (it may be called again
    then), OSError, urllib3's DecodeError and ProtocolError, and ``http.client.IncompleteRead`` where
    the peer leaves too early.
    """

    socket: SocketReader

    def __init__(
        self, raw: urllib3.HTTPResponse, exchange: http.client.HTTPResponse, sock: SocketReader
    ) -> None:
        super().__init__(raw)
        self.socket = sock
        self._exchange: Any = exchange  # typeshed does not say that ``fp`` may be None
        self._framing = _framing_of(raw, exchange)
        self._coding = ContentDecoder(raw)
        self._is_coded = self._coding.is_coded
        self._pieces: deque[bytes] = deque()  # framing undone, coding not yet
        # Where http.client has read the head, it may have read more.
        self._buffer: Any = exchange.fp if sock.is_buffered(exchange.fp) else None
        self._size = _SMALL

    def _next(self, *, joined: bool) -> bytes | None:
        if self._is_over():
            return self._when_over()
        if self._pieces or self._coding.has_more:
            # Nothing is read from the socket, which would tell that the call was ended.
            self.socket.attempt.token.check()
        if self._coding.has_more:
            return self._coding.decode(b"") or None
        if not self._pieces and not self._receive(joined=joined):
            return self._finish()
        piece = self._pieces.popleft() if self._pieces else b""
        content = self._coding.decode(piece) if self._is_coded else piece
        # Not one read later: the end may be all that follows, and a caller who stops here has a whole
        # response. Where the coding is not whole an error follows, and the content comes first.
        if self._framing.is_over and not self._pieces and self._is_whole():
            self._finish()
        if content:
            self._has_begun = True
            return content
        return b"" if self._has_ended() else None

    def _is_over(self) -> bool:
        if self._exchange.fp is None and self.state is BodyState.OPEN:  # closed, and not through us
            self.socket.attempt.token.check()
            self._end(BodyState.CLOSED)
            self._give_up()
        return self.state is not BodyState.OPEN

    def _is_whole(self) -> bool:
        return not self._is_coded or self._coding.is_whole(framed=self._framing.is_framed)

    def _receive(self, *, joined: bool) -> bool:
        """Read once, and take the framing off; False where nothing follows."""
        framing = self._framing
        if framing.is_over or framing.fault is not None:
            return False
        data = self._recv_buffered() if self._buffer else self.socket.recv(self._size)
        # A stream of small events needs no large buffer, a burst does.
        self._size = _LARGE if len(data) >= self._size else _SMALL
        found = framing.feed(data)
        self._pieces.extend([b"".join(found)] if joined and len(found) > 1 else found)
        return bool(data)

    def _has_ended(self) -> bool:
        return self.state is BodyState.ENDED

    def _recv_buffered(self) -> bytes:
        """Return the bytes that http.client has read ahead; read once where there are none."""
        buffer, self._buffer = self._buffer, None
        return self.socket.buffered(buffer) or self.socket.recv(self._size)

    def _ends_chunk(self) -> bool:
        return not self._coding.has_more and (bool(self._pieces) or self._framing.ends_chunk)

    def _finish(self) -> bytes:
        framing = self._framing
        if framing.fault is not None:
            raise urllib3.exceptions.ProtocolError(str(framing.fault)) from framing.fault
        if not framing.may_end:
            raise http.client.IncompleteRead(b"", framing.left)
        if not self._is_whole():
            raise http.client.IncompleteRead(b"")
        self.state = BodyState.ENDED
        if framing.surplus:
            self.socket.leave(framing.surplus)
        self._exchange.close()
        self.socket.close()
        if self.socket.has_surplus:
            self._raw.close()  # the pool of another adapter does not look
        self._raw.release_conn()
        return b""

    def _give_up(self) -> None:
        self._pieces.clear()
        self._raw.close()
        self.socket.close()
        self._raw.release_conn()


class ForeignBody(Body):
    """The body of a response without a socket of its own, such as a mock's, or one that was read in part."""

    def __init__(self, raw: Any, *, is_closed: bool = False) -> None:
        super().__init__(raw)
        if is_closed:
            self.state = BodyState.CLOSED

    def _next(self, *, joined: bool) -> bytes | None:  # noqa: ARG002  # chunks are not seen here
        if self.state is not BodyState.OPEN:
            return self._when_over()
        # vcrpy's stand-in has a read1() too, which is a file's and takes no keyword.
        is_urllib3s = isinstance(self._raw, urllib3.BaseHTTPResponse)
        read1 = getattr(self._raw, "read1", None) if is_urllib3s else None
        data: bytes = (
            self._raw.read(_LARGE) if read1 is None else read1(_LARGE, decode_content=True)
        )
        self._has_begun = self._has_begun or bool(data)
        if not data:
            self.state = BodyState.ENDED
        return data

    def _give_up(self) -> None:
        self._raw.close()
        getattr(self._raw, "release_conn", lambda: None)()


def _framing_of(raw: Any, exchange: http.client.HTTPResponse) -> Framing:
    # Of another adapter's response http.client has read the head, and knows fewer chunked bodies than urllib3.
    if raw.chunked and not is_bodiless(exchange):
        return ChunkFraming(raw.chunk_left or 0)
    if exchange.length is None:
        return CloseFraming()
    return LengthFraming(exchange.length)


def body_of(response: requests.Response) -> Body:
    """Return the body of a streamed response; one of another adapter is adopted with its own read timeout.

    A response of ours has one for good: a reader goes on where another has stopped.
    """
    body: Body | None = getattr(response, "_body", None)
    if body is None:
        body = _body_of(response.raw)
        if hasattr(response, "_body"):
            vars(response)["_body"] = body
    return body


def is_used(response: requests.Response) -> bool:
    """Return whether the body of a response has been read to its end, or given up."""
    body: Body | None = getattr(response, "_body", None)
    if body is not None:
        return body.state in (BodyState.ENDED, BodyState.CLOSED) and not body.unread
    exchange = getattr(response.raw, "_original_response", None)
    is_closed = isinstance(exchange, http.client.HTTPResponse) and exchange.isclosed()
    return bool(
        response._content_consumed
        or response.raw is None
        or (is_closed and not response.raw.tell())
    )


def is_rewired(raw: Any) -> bool:
    """Return whether somebody has put a file of their own under urllib3's response: a cache that sees the bytes."""
    exchange = getattr(raw, "_original_response", None)
    is_response = isinstance(exchange, http.client.HTTPResponse)
    return is_response and getattr(raw, "_fp", exchange) is not exchange


def _body_of(raw: Any) -> Body:
    exchange = getattr(raw, "_original_response", None)
    # vcrpy's stand-in for urllib3's response says that it is http.client's too.
    if not isinstance(raw, urllib3.HTTPResponse) or not isinstance(
        exchange, http.client.HTTPResponse
    ):
        return ForeignBody(raw)
    if exchange.isclosed() or raw.tell():
        # urllib3 may hold some that it has decoded for nobody yet.
        return ForeignBody(raw, is_closed=exchange.isclosed() and not raw._decoded_buffer)
    if isinstance(exchange, RawResponse):
        return SocketBody(raw, exchange, exchange.reader)
    sock = getattr(getattr(exchange.fp, "raw", None), "_sock", None)
    return ForeignBody(raw) if sock is None else SocketBody(raw, exchange, _adopt(sock))


def _adopt(sock: Any) -> SocketReader:
    """Return the reader for the socket of another adapter's response, under that socket's timeout."""
    idle = timed(sock).gettimeout()
    attempt = Attempt.unobserved(idle, Phase.BODY)
    reader = SocketReader(sock, attempt, idle)
    reader.begin_body(idle, ends_with_connection=False)
    attempt.token.watch(sock)
    return reader
