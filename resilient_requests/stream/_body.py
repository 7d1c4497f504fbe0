"""The body of one response as it arrives: framing and content coding undone, and one state."""

from __future__ import annotations

import enum
import http.client
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

import requests
import urllib3

from resilient_requests.call import Attempt, Phase
from resilient_requests.exceptions import Cancelled
from resilient_requests.stream._coding import ContentDecoder
from resilient_requests.stream._framing import ChunkFraming, CloseFraming, LengthFraming
from resilient_requests.stream._unread import Unread
from resilient_requests.transport import RawResponse, SocketReader, is_bodiless

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


class Body(Protocol):
    """The body of one response, over all loops that read it; owned by one thread, but for ``close``."""

    unread: Unread
    error: BaseException | None
    fault: BaseException | None

    @property
    def state(self) -> BodyState:
        """Where its reading stands."""

    @property
    def socket(self) -> SocketReader | None:
        """The socket; None where there is none to speak of."""

    @property
    def reader(self) -> int:
        """The number of the reader that attached itself last."""

    def attach(self) -> int:
        """Have one more reader, which reads from now on; return its number."""

    def read(self) -> bytes | None:
        """Return the next bytes; b"" at the end, None where some came that give no content yet."""

    def receive(self, *, whole_chunks: bool) -> bytes | None:
        """Add the next bytes to ``unread``, and return them, as `read`.

        ``whole_chunks``: bytes of one chunk of the framing only; b"" also where one ends.
        """

    def fail(self, error: BaseException, fault: BaseException | None) -> None:
        """End with an error, and the fault that it is the reader's name for; the connection is closed."""

    def close(self) -> None:
        """Close the connection where the body has not ended; harmless when repeated."""

    def drop(self) -> None:
        """Close the socket alone, for a finalizer: this thread may hold the lock of the pool's queue."""


class _Stateful:
    """The state of a body, and who reads it."""

    def __init__(self) -> None:
        self.unread = Unread()
        self.error: BaseException | None = None
        self.fault: BaseException | None = None  # the error before a reader named it
        self.reader = 0
        self._state = BodyState.OPEN
        self._has_begun = False  # content was handed out
        self._closed_by: int | None = None  # the thread

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._state.value}>"

    @property
    def state(self) -> BodyState:
        """Where its reading stands."""
        return self._state

    def attach(self) -> int:
        """Have one more reader, which reads from now on; return its number."""
        self.reader += 1
        return self.reader

    def _go(self, state: BodyState) -> bool:
        """Go on to a state; return whether it is a new one."""
        if state not in _NEXT[self._state]:
            return False
        self._state = state
        return True

    def _without_lf(self, content: bytes) -> bytes | None:
        """Leave out an LF that belongs to a line end of which a loop over lines had the CR."""
        self.unread.add(content, ends_chunk=False)
        return self.unread.take_all() or None

    def _was_closed(self) -> bytes:
        """Return b"" for a body that the thread that reads it has closed, as requests does; else raise.

        A body that another thread has closed, such as a timer's, must not look like a whole one.
        """
        if self._state is BodyState.DROPPED:
            raise requests.exceptions.StreamConsumedError
        if self._closed_by == threading.get_ident() or not (self._has_begun or self._closed_by):
            return b""
        raise Cancelled("the response was closed before the end of its body")


class SocketBody(_Stateful):
    """Reads past http.client and urllib3, which hold bytes back and lose them on a cut.

    ``read`` raises TimeoutError when nothing came within the socket's limit (it may be called again
    then), OSError, urllib3's DecodeError and ProtocolError, and ``http.client.IncompleteRead`` where
    the peer leaves too early.
    """

    def __init__(
        self, raw: urllib3.HTTPResponse, exchange: http.client.HTTPResponse, sock: SocketReader
    ) -> None:
        super().__init__()
        self.socket = sock
        self._raw: Any = raw
        self._exchange: Any = exchange  # typeshed does not say that ``fp`` may be None
        self._framing = _framing_of(raw, exchange)
        self._coding = ContentDecoder(raw)
        self._is_coded = self._coding.is_coded
        self._pieces: deque[bytes] = deque()  # framing undone, coding not yet
        self._is_fresh = True  # http.client has read ahead, perhaps
        self._size = _SMALL

    def read(self) -> bytes | None:
        """Return the next bytes of the content; see the class."""
        if self.unread:
            return self.unread.take_all()
        content = self._next(joined=True)
        return self._without_lf(content) if content and self.unread.is_behind_cr else content

    def receive(self, *, whole_chunks: bool) -> bytes | None:
        """Add the next bytes of the content to ``unread``, and return them."""
        content = self._next(joined=not whole_chunks)
        ends = (
            whole_chunks
            and not self._coding.has_more
            and (bool(self._pieces) or self._framing.ends_chunk)
        )
        if content:
            self.unread.add(content, ends_chunk=ends)
        elif content is None and ends and self.unread.end_chunk():
            return b""
        return content

    def _next(self, *, joined: bool) -> bytes | None:
        if self._state is not BodyState.OPEN:
            return b"" if self._state is BodyState.ENDED else self._reread()
        if self._exchange.fp is None:
            self._close_behind_our_back()
            return self._reread()
        if self._pieces or self._coding.has_more:
            # Nothing is read from the socket, which would tell that the call was ended.
            self.socket.attempt.token.check()
        if self._coding.has_more:
            return self._handed(self._coding.decode(b""))
        if not self._pieces and (self._framing.is_over or not self._receive(joined=joined)):
            return self._finish()
        piece = self._pieces.popleft() if self._pieces else b""
        content = self._coding.decode(piece) if self._is_coded else piece
        if self._framing.is_over and not self._pieces and self._is_all():
            # Not one read later: the end may be all that follows, and a caller who stops here has a whole response.
            self._finish()
        return self._handed(content)

    def _handed(self, content: bytes) -> bytes | None:
        if not content:
            return b"" if self._state is BodyState.ENDED else None
        self._has_begun = True
        return content

    def _is_all(self) -> bool:
        # Where it is not, an error follows, and the content comes first.
        return not self._is_coded or self._coding.is_whole(framed=True)

    def _receive(self, *, joined: bool) -> bool:
        """Read once from the socket; return whether anything came."""
        framing = self._framing
        if framing.fault is not None:
            raise urllib3.exceptions.ProtocolError(str(framing.fault)) from framing.fault
        data = b""
        if self._is_fresh:
            self._is_fresh = False
            data = self.socket.buffered(self._exchange.fp)
        data = data or self.socket.recv(self._size)
        if not data:
            return False
        # A stream of small events needs no large buffer, a burst does.
        self._size = _LARGE if len(data) >= self._size else _SMALL
        pieces = framing.feed(data)
        if joined and len(pieces) > 1:
            pieces = [b"".join(pieces)]
        self._pieces.extend(pieces)
        return True

    def _finish(self) -> bytes:
        framing = self._framing
        if framing.fault is not None:
            raise urllib3.exceptions.ProtocolError(str(framing.fault)) from framing.fault
        if not framing.may_end:
            raise http.client.IncompleteRead(b"", getattr(framing, "left", None))
        if self._is_coded and not self._coding.is_whole(framed=framing.is_framed):
            raise http.client.IncompleteRead(b"")
        self._go(BodyState.ENDED)
        self.socket.leave(framing.surplus)
        self._exchange.close()
        self.socket.close()
        if self.socket.has_surplus:
            self._raw.close()  # the pool of another adapter does not look
        self._raw.release_conn()
        return b""

    def _close_behind_our_back(self) -> None:
        """The response was closed, and not through us."""
        self.socket.attempt.token.check()
        self.close()
        self._closed_by = None

    def _reread(self) -> bytes:
        if self.error is not None:
            raise self.error
        self.socket.attempt.token.check()
        return self._was_closed()

    def fail(self, error: BaseException, fault: BaseException | None) -> None:
        """End with an error, and the fault that it is the reader's name for; the connection is closed."""
        self.error, self.fault = error, fault
        self._go(BodyState.FAILED)
        self._let_go()

    def close(self) -> None:
        """Close the connection where the body has not ended; harmless when repeated."""
        self.unread.clear()
        if self._go(BodyState.CLOSED):
            self._closed_by = threading.get_ident()
            self._let_go()

    def drop(self) -> None:
        """Close the socket alone, for a finalizer: this thread may hold the lock of the pool's queue."""
        if self._go(BodyState.DROPPED):
            self.unread.clear()
            self._raw.close()

    def _let_go(self) -> None:
        self.unread.clear()
        self._pieces.clear()
        self._raw.close()
        self.socket.close()
        self._raw.release_conn()


class ForeignBody(_Stateful):
    """The body of a response without a socket of its own, such as a mock's, or one that was read in part."""

    socket: SocketReader | None = None

    def __init__(self, raw: Any, *, is_closed: bool = False) -> None:
        super().__init__()
        self._raw = raw
        if is_closed:
            self._state = BodyState.CLOSED

    def read(self) -> bytes | None:
        """Return the next bytes; b"" at the end."""
        if self.unread:
            return self.unread.take_all()
        content = self._next()
        return self._without_lf(content) if content and self.unread.is_behind_cr else content

    def receive(self, *, whole_chunks: bool) -> bytes | None:  # noqa: ARG002  # chunks are not seen here
        """Add the next bytes to ``unread``, and return them."""
        data = self._next()
        if data:
            self.unread.add(data, ends_chunk=False)
        return data

    def _next(self) -> bytes | None:
        if self.error is not None:
            raise self.error
        if self._state is not BodyState.OPEN:
            return b"" if self._state is BodyState.ENDED else self._was_closed()
        # vcrpy's stand-in has a read1() too, which is a file's and takes no keyword.
        is_urllib3s = isinstance(self._raw, urllib3.BaseHTTPResponse)
        read1 = getattr(self._raw, "read1", None) if is_urllib3s else None
        data: bytes = (
            self._raw.read(_LARGE) if read1 is None else read1(_LARGE, decode_content=True)
        )
        self._has_begun = self._has_begun or bool(data)
        if not data:
            self._go(BodyState.ENDED)
        return data

    def fail(self, error: BaseException, fault: BaseException | None) -> None:
        """End with an error, and the fault that it is the reader's name for."""
        self.error, self.fault = error, fault
        self._go(BodyState.FAILED)
        self._let_go()

    def close(self) -> None:
        """Close it; harmless when repeated."""
        self.unread.clear()
        if self._go(BodyState.CLOSED):
            self._closed_by = threading.get_ident()
            self._let_go()

    def drop(self) -> None:
        """Close it, for a finalizer."""
        if self._go(BodyState.DROPPED):
            self.unread.clear()
            self._raw.close()

    def _let_go(self) -> None:
        self.unread.clear()
        self._raw.close()
        getattr(self._raw, "release_conn", lambda: None)()


def _framing_of(raw: Any, exchange: http.client.HTTPResponse) -> Framing:
    # Of another adapter's response http.client has read the head, and knows fewer chunked bodies than urllib3.
    if raw.chunked and not is_bodiless(exchange):
        return ChunkFraming(raw.chunk_left or 0)
    return CloseFraming() if exchange.length is None else LengthFraming(exchange.length)


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
    idle = sock.gettimeout()
    attempt = Attempt.unobserved(idle, Phase.BODY)
    reader = SocketReader(sock, attempt, idle)
    reader.begin_body(idle, ends_with_connection=False)
    attempt.token.watch(sock)
    return reader
