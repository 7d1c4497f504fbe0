"""Bodies read from the socket, with framing and coding undone, and the responses that have one."""

from __future__ import annotations

import http.client
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

import urllib3

from resilient_requests.call import Attempt, Phase
from resilient_requests.stream._body import Body, BodyState, ForeignBody
from resilient_requests.stream._coding import ContentDecoder
from resilient_requests.stream._framing import ChunkFraming, CloseFraming, LengthFraming
from resilient_requests.transport import (
    RawResponse,
    RecyclingPool,
    SocketReader,
    is_bodiless,
    timed,
)

if TYPE_CHECKING:
    import requests

    from resilient_requests.stream._framing import Framing

__all__ = ["body_of", "is_rewired", "is_used"]

# A small read for streams of events, a large one for bursts.
_SMALL, _LARGE = 16 * 1024, 64 * 1024
# Up to Python 3.11, looking up a member on its class takes as long as a call.
_OPEN = BodyState.OPEN


class SocketBody(Body):
    """Reads past http.client and urllib3, which hold bytes back and lose them on a cut.

    ``read`` raises TimeoutError if nothing came within the socket's limit, and may be called again
    then. It raises OSError, urllib3's DecodeError and ProtocolError, and
    ``http.client.IncompleteRead`` if the peer leaves too early.
    """

    socket: SocketReader

    def __init__(
        self, raw: urllib3.HTTPResponse, exchange: http.client.HTTPResponse, sock: SocketReader
    ) -> None:
        super().__init__(raw)
        self.socket = sock
        self._exchange: Any = exchange  # in typeshed ``fp`` is never None
        self._framing = _framing_of(raw, exchange)
        self._coding = ContentDecoder(raw)
        self._is_coded = self._coding.is_coded
        # urllib3's raw.tell() shows these counts. Its raw.read() would take the end of a body for a
        # cut without them, or wait for bytes that were read here. It counts no bytes of chunks.
        # Another adapter's response is not counted: `_body_of` sees by raw.tell() who has read it.
        self.is_chunked = isinstance(self._framing, ChunkFraming)
        self._is_counted = isinstance(exchange, RawResponse) and not self.is_chunked
        self._pieces: deque[bytes] = deque()  # without framing, still in the coding
        # If http.client has read the head, it may have read a part of the body too.
        self._buffer: Any = exchange.fp if sock.is_buffered(exchange.fp) else None
        self._size = _SMALL

    # Not split up, because each event of a stream passes here: a call more is a tenth of its cost.
    def _next(self, *, joined: bool) -> bytes | None:
        if self.state is not _OPEN or self._exchange.fp is None:
            return self._when_over()
        framing, pieces = self._framing, self._pieces
        if pieces or self._coding.has_more:
            # No read of the socket follows that would notice the end of the call.
            self.socket.attempt.token.check()
            if self._coding.has_more:
                return self._coding.decode(b"") or None
            piece = pieces.popleft() if pieces else b""  # another thread may close it here
        elif framing.is_over or framing.fault is not None:
            return self._finish()
        else:
            data = self._recv_buffered() if self._buffer else self.socket.recv(self._size)
            if not data:
                return self._finish()
            # Small buffers are enough for a stream of small events, a burst needs a large one.
            self._size = _LARGE if len(data) >= self._size else _SMALL
            found = framing.feed(data)
            if self._is_counted:
                self._raw._fp_bytes_read += len(found[0])
                self._raw.length_remaining = self._exchange.length = framing.left
            piece = found[0] if len(found) == 1 else self._first_of(found, joined=joined)
        content = self._coding.decode(piece) if self._is_coded else piece
        # Not one read later: only the end may follow, and a caller who stops here has the whole
        # response. An incomplete coding is an error, but after its content.
        end = self._finish() if framing.is_over and not pieces and self._is_whole() else None
        self._has_begun = self._has_begun or content != b""
        return content or end

    def _first_of(self, found: list[bytes], *, joined: bool) -> bytes:
        """Return the first piece and keep the others, or return all as one."""
        if joined or not found:
            return b"".join(found)
        self._pieces.extend(found)
        return self._pieces.popleft() if self._pieces else b""

    def _when_over(self) -> bytes:
        if self.state is BodyState.OPEN:  # other code has closed the connection
            self.socket.attempt.token.check()
            if self._end(BodyState.CLOSED) and isinstance(self._exchange, RawResponse):
                self._closed_by = self._exchange.closed_by
                if self._closed_by is None and not self._exchange.length:
                    # Nobody closed it: `raw` was read to its end, so this is the end here too.
                    self._closed_by = threading.get_ident()
            self._give_up()
        return super()._when_over()

    def _is_whole(self) -> bool:
        return not self._is_coded or self._coding.is_whole(framed=self._framing.is_framed)

    def _recv_buffered(self) -> bytes:
        """Return the bytes that http.client has read ahead, or read once if there are none."""
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
        if not self._end(BodyState.ENDED):
            return self._when_over()  # another thread has closed it at this moment
        if framing.surplus:
            self.socket.leave(framing.surplus)
        # urllib3 has not read this body, so it does not notice the end itself.
        self._exchange.close()
        if not self.socket.closed:  # another adapter's
            self.socket.close()
        if self.socket.has_surplus:
            self._raw.close()  # another adapter's pool would reuse the connection
        self._raw.release_conn()
        return b""

    @property
    def holds_place(self) -> bool:
        """True if other calls may wait for the place that this body has in its pool."""
        return bool(getattr(self._raw._pool, "block", False))

    def _owe_place(self) -> None:
        pool, conn = self._raw._pool, self._raw._connection
        if isinstance(pool, RecyclingPool) and conn is not None:
            self._raw._connection = None  # so that nobody returns it a second time
            pool.owed.append(conn)

    def _give_up(self) -> None:
        self._pieces.clear()
        # Closed first: release_conn() alone would pool a connection in mid-body.
        self._raw.close()
        self.socket.close()
        self._raw.release_conn()


def _framing_of(raw: Any, exchange: http.client.HTTPResponse) -> Framing:
    # http.client has read the head of another adapter's response, and it recognizes fewer chunked
    # bodies than urllib3 does.
    if raw.chunked and not is_bodiless(exchange):
        return ChunkFraming(raw.chunk_left or 0)
    if exchange.length is None:
        return CloseFraming()
    return LengthFraming(exchange.length)


def body_of(response: requests.Response) -> Body:
    """Return the body of a streamed response.

    A response of ours keeps its body, so that a reader goes on where another has stopped. For
    another adapter's response a body is made over its socket, with that socket's timeout.
    """
    body: Body | None = getattr(response, "_body", None)
    if body is None or not body.is_of(response.raw):
        body = _body_of(response.raw)
        if hasattr(response, "_body"):
            vars(response)["_body"] = body
    return body


def is_used(response: requests.Response) -> bool:
    """Return True if the body of a response has been read to its end, or closed."""
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
    """Return True if other code has put its reading over urllib3's, or its file under it.

    A cache does that to see the bytes, and a mock has nothing else.
    """
    kind, stock = type(raw), urllib3.HTTPResponse
    if kind is not stock and not (
        issubclass(kind, stock)  # a mock only says that it is an instance
        and kind.read is stock.read
        and kind.stream is stock.stream
    ):
        return True
    own = vars(raw)
    if "read" in own or "stream" in own:
        return True
    exchange = own.get("_original_response")
    is_response = isinstance(exchange, http.client.HTTPResponse)
    return is_response and own.get("_fp", exchange) is not exchange


def _body_of(raw: Any) -> Body:
    exchange = getattr(raw, "_original_response", None)
    # vcrpy's stand-in for urllib3's response claims to be http.client's as well.
    if is_rewired(raw) or not isinstance(exchange, http.client.HTTPResponse):
        return ForeignBody(raw)
    if exchange.isclosed() or raw.tell():
        return ForeignBody(raw, is_closed=exchange.isclosed() and not _holds_content(raw))
    if isinstance(exchange, RawResponse):
        return SocketBody(raw, exchange, exchange.reader)
    sock = getattr(getattr(exchange.fp, "raw", None), "_sock", None)
    return ForeignBody(raw) if sock is None else SocketBody(raw, exchange, _adopt(sock))


def _holds_content(raw: Any) -> bool:
    """Return True if urllib3 holds content that it has not returned; since 2.6 still coded."""
    decoder = getattr(raw, "_decoder", None)
    return bool(raw._decoded_buffer) or getattr(decoder, "has_unconsumed_tail", False)


def _adopt(sock: Any) -> SocketReader:
    """Return a reader for the socket of another adapter's response, with that socket's timeout."""
    idle = timed(sock).gettimeout()
    attempt = Attempt.unobserved(idle, Phase.BODY)
    reader = SocketReader(sock, attempt, idle)
    reader.begin_body(idle, ends_with_connection=False)
    attempt.token.watch(sock)
    return reader
