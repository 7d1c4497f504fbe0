"""The body of one response as it arrives: framing and content coding undone."""

from __future__ import annotations

import http.client
import weakref
from typing import TYPE_CHECKING, Any, Protocol

import urllib3

from resilient_requests.call._attempt import Attempt, Limits, Phase
from resilient_requests.call._cancel import Call
from resilient_requests.stream._chunked import ChunkedDecoder, ChunkedError
from resilient_requests.stream._coding import ContentDecoder
from resilient_requests.transport._exchange import Exchange, Tap, is_bodiless

if TYPE_CHECKING:
    from collections.abc import Callable

    import requests

__all__ = ["Body", "ForeignBody", "Source", "Turn", "body_of", "is_rewired", "is_used"]

_SMALL, _LARGE = 16 * 1024, 64 * 1024
_FIRST_PART = 1024


class Holder(Protocol):
    """Who reads a body, and may hold some of it that was not handed out yet."""

    def give_back(self) -> None:
        """Hand to the source's ``unread`` what is held: another is about to read on."""


# Weak, since whoever holds a part of a body keeps its response.
Turn = weakref.ref[Holder]


class Source(Protocol):
    """What a stream reads from; ``tap`` is None where there is no socket to speak of."""

    error: BaseException | None  # what has ended it, for all who go on reading
    is_done: bool
    is_closed: bool  # before its end, by who read it
    is_dropped: bool  # before its end, with its reader
    turn: Turn | None  # of who reads now

    @property
    def tap(self) -> Tap | None: ...
    @property
    def is_between_chunks(self) -> bool:
        """Whether what was read so far ends with a chunk of the chunked framing."""

    def read(self) -> bytes:
        """Return the next bytes; b"" where some came that give no content yet, or at the end (``is_done``)."""

    def take_turn(self, turn: Turn | None) -> None:
        """Let another read: whoever has read until now gives back what it holds."""

    def unread(self, data: bytes) -> None:
        """Take bytes back: the next read returns them."""

    def skip_lf(self) -> None:
        """Leave out an LF that comes next: it ends a line of which the CR was all that had arrived."""

    def close(self) -> None:
        """Close the connection, which is in the middle of a body, and give its place back."""


class _Shared:
    """What those who read one body, one after the other or in turns, leave to each other."""

    def __init__(self, *, is_closed: bool = False) -> None:
        self.error: BaseException | None = None
        self.is_done = self.is_closed = is_closed
        self.is_dropped = False
        self.turn: Turn | None = None
        self._unread = b""
        self._part = _FIRST_PART
        self._is_behind_cr = False

    def take_turn(self, turn: Turn | None) -> None:
        before, self.turn, self._part = self.turn, turn, _FIRST_PART
        holder = before() if before is not None and before is not turn else None
        if holder is not None:
            holder.give_back()

    def unread(self, data: bytes) -> None:
        self._unread = data + self._unread
        self.is_done &= not data

    def _reread(self) -> bytes:
        """Return some of what was given back: a little at first, since loops in turns give the rest back again."""
        part, self._part = self._part, self._part * 4
        data, self._unread = self._unread[:part], self._unread[part:]
        return data

    def skip_lf(self) -> None:
        self._is_behind_cr = True

    def _without_lf(self, read: Callable[[], bytes]) -> bytes:
        self._is_behind_cr = False
        data = b""
        try:
            data = read()
        finally:
            self._is_behind_cr = not (data or self.is_done)
        return data.removeprefix(b"\n")


class Body(_Shared):
    """Reads past http.client and urllib3, which hold bytes back and lose them on a cut; owned by one thread.

    ``read`` raises TimeoutError when nothing came within the tap's limit (it may be called again then), OSError,
    urllib3's DecodeError and ProtocolError, and ``http.client.IncompleteRead`` where the peer leaves too early.
    """

    def __init__(
        self, raw: urllib3.HTTPResponse, exchange: http.client.HTTPResponse, tap: Tap
    ) -> None:
        super().__init__()
        self.tap = tap
        self._raw: Any = raw
        self._exchange = exchange
        # Of another adapter's response http.client has read the head, and knows fewer chunked bodies than urllib3.
        is_chunked = raw.chunked and not is_bodiless(exchange)
        self._chunks = ChunkedDecoder(raw.chunk_left or 0) if is_chunked else None
        self._left = (
            None if is_chunked else exchange.length
        )  # None: the framing tells the end, or the peer's leaving
        self._coding = ContentDecoder(raw)
        self._ahead: bytes | None = (
            None  # read, and not unframed yet; None: ask http.client what it has read
        )
        self._size = _SMALL

    @property
    def is_between_chunks(self) -> bool:
        if self._coding.has_more or self._unread:
            return False
        return self._chunks is not None and self._chunks.is_between_chunks

    def read(self) -> bytes:
        if self._unread or self._is_behind_cr or self._exchange.isclosed():
            return self._without_lf(self.read) if self._is_behind_cr else self._left_over()
        if self._coding.has_more:
            self.tap.attempt.call.check()
            return self._coding.decode(b"")
        if self._left == 0 or (self._chunks is not None and self._chunks.is_done):
            return self._finish()
        if self._ahead is None:
            self._ahead = self.tap.buffered(self._exchange.fp)
        data, self._ahead = self._ahead or self.tap.recv(self._size), b""
        if not data:
            return self._finish()
        # A stream of small events needs no large buffer, a burst does.
        self._size = _LARGE if len(data) >= self._size else _SMALL
        content = self._coding.decode(self._unframed(data))
        # Not one read later: the end may be all that follows, and a caller who stops here has a whole response.
        is_last = self._left == 0 or (self._chunks is not None and self._chunks.is_done)
        # Where it is not whole an error follows, and the content comes first.
        return (
            content + self._finish() if is_last and self._coding.is_whole(framed=True) else content
        )

    def _unframed(self, data: bytes) -> bytes:
        if self._chunks is not None:
            try:
                return self._chunks.feed(data)
            except ChunkedError as error:
                if not error.content:
                    raise urllib3.exceptions.ProtocolError(str(error)) from error
                self._ahead = error.rest
                return error.content
        if self._left is not None:
            data, self._ahead = data[: self._left], data[self._left :]
            self._left -= len(data)
        return data

    def _finish(self) -> bytes:
        is_framed = self._chunks is not None or self._left is not None
        if self._left or (self._chunks is not None and not self._chunks.is_complete):
            raise http.client.IncompleteRead(b"", self._left)
        if not self._coding.is_whole(framed=is_framed):
            raise http.client.IncompleteRead(b"")
        self.is_done = True
        if self._ahead or self.tap.has_unread or (self._chunks is not None and self._chunks.rest):
            self._raw.close()  # bytes behind the body would be taken for the next response
        self._exchange.close()
        self.tap.close()
        self._raw.release_conn()
        return b""

    def _left_over(self) -> bytes:
        """Return what was given back. Response.close() ends a loop, as in requests, unless the call was ended too."""
        data = self._reread()
        if not data and (self.is_closed or not self.is_done):
            self.tap.attempt.call.check()
            self.close()
        self.is_done = self._exchange.isclosed() and not self._unread
        return data

    def close(self) -> None:
        self.is_closed, self.is_done = self.is_closed or not self.is_done, True
        self._unread = b""
        self._raw.close()
        self.tap.close()
        self._raw.release_conn()


class ForeignBody(_Shared):
    """The body of a response without a socket of its own, such as a mock's."""

    tap: Tap | None = None
    is_between_chunks = False

    def __init__(self, raw: Any, *, is_closed: bool = False) -> None:
        super().__init__(is_closed=is_closed)
        self._raw = raw

    def read(self) -> bytes:
        if self._is_behind_cr:
            return self._without_lf(self.read)
        if self._unread:
            return self._reread()
        if not self.is_done:
            # vcrpy's stand-in has a read1() too, which is a file's and takes no keyword.
            read1 = (
                getattr(self._raw, "read1", None)
                if isinstance(self._raw, urllib3.BaseHTTPResponse)
                else None
            )
            data: bytes = (
                read1(_LARGE, decode_content=True) if read1 is not None else self._raw.read(_LARGE)
            )
            self.is_done = not data
            return data
        return b""

    def close(self) -> None:
        self.is_closed, self.is_done = self.is_closed or not self.is_done, True
        self._unread = b""
        self._raw.close()
        getattr(self._raw, "release_conn", lambda: None)()


def body_of(response: requests.Response) -> Source:
    """Return the reader for a streamed response; one of another adapter is adopted with its own read timeout.

    A response of ours has one for good: who reads on, goes on where another has stopped.
    """
    source: Source | None = getattr(response, "_source", None)
    if source is None:
        source = _body_of(response.raw)
        if hasattr(response, "_source"):
            vars(response)["_source"] = source
    return source


def is_used(response: requests.Response) -> bool:
    """Return whether the body of a response has been read to its end, or given up."""
    source: Source | None = getattr(response, "_source", None)
    if source is not None:
        source.take_turn(None)  # else what a loop holds would not count
        return source.is_done and source.error is None
    exchange = getattr(response.raw, "_original_response", None)
    is_closed = isinstance(exchange, http.client.HTTPResponse) and exchange.isclosed()
    return bool(
        response._content_consumed
        or response.raw is None
        or (is_closed and not response.raw.tell())
    )


def is_rewired(raw: Any) -> bool:
    """Return whether somebody has put a file of their own under urllib3's response: a cache that sees what is read."""
    exchange = getattr(raw, "_original_response", None)
    return (
        isinstance(exchange, http.client.HTTPResponse)
        and getattr(raw, "_fp", exchange) is not exchange
    )


def _body_of(raw: Any) -> Source:
    exchange = getattr(raw, "_original_response", None)
    # vcrpy's stand-in for urllib3's response says that it is http.client's too.
    if not isinstance(raw, urllib3.HTTPResponse) or not isinstance(
        exchange, http.client.HTTPResponse
    ):
        return ForeignBody(raw)
    if exchange.isclosed() or raw.tell():
        # urllib3 may hold some that it has decoded for nobody yet.
        return ForeignBody(raw, is_closed=exchange.isclosed() and not raw._decoded_buffer)
    if isinstance(exchange, Exchange):
        return Body(raw, exchange, exchange.tap)
    sock = getattr(getattr(exchange.fp, "raw", None), "_sock", None)
    return ForeignBody(raw) if sock is None else Body(raw, exchange, _adopt(sock))


def _adopt(sock: Any) -> Tap:
    idle = sock.gettimeout()
    call = Call()
    call.is_sending = False
    limits = Limits(connect=None, write=None, response=None, idle=idle)
    attempt = Attempt(call, 1, limits, fresh=True, since=call.boot())
    attempt.phase = Phase.BODY
    tap = Tap(sock, attempt, idle)
    tap.until = None
    call.watch(sock)
    return tap
