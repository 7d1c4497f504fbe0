"""The body of one response as it arrives: framing and content coding undone."""

from __future__ import annotations

import http.client
from typing import TYPE_CHECKING, Any, Protocol

import urllib3

from resilient_requests._chunked import ChunkedDecoder, ChunkedError
from resilient_requests._exchange import Exchange, Tap

if TYPE_CHECKING:
    import requests

__all__ = ["Body", "ForeignBody", "body_of"]

_READ = 64 * 1024


class Source(Protocol):
    """What a stream reads from."""

    @property
    def tap(self) -> Tap | None: ...
    def read(self) -> bytes | None:
        """Return the next bytes at once when some have arrived; b"" at the end, None when a poll found nothing."""

    def close(self) -> None:
        """Close the connection, which is in the middle of a body."""


class Body:
    """Reads past http.client and urllib3, which hold bytes back and lose them on a cut; owned by one thread.

    ``read`` raises what the socket raises (TimeoutError, OSError), urllib3's DecodeError, and
    ``http.client.IncompleteRead`` where the peer ends short of its framing or of its content coding.
    """

    def __init__(self, raw: urllib3.HTTPResponse, exchange: Exchange) -> None:
        self.tap = exchange.tap
        self._raw: Any = raw
        self._exchange = exchange
        self._fp: Any = exchange.fp
        self._chunks = ChunkedDecoder() if exchange.chunked else None
        self._left: int | None = None if exchange.chunked else exchange.length
        self._is_spoilt = False
        self._is_done = False
        self._raw._init_decoder()
        self._decoder: Any = self._raw._decoder

    def read(self) -> bytes | None:
        while not self._is_done:
            if self._left == 0:
                return self._finish()
            data = self._fp.read1(_READ if self._left is None else min(self._left, _READ))
            if not data:
                return self._finish() if self.tap.eof else None
            content = self._unframed(data)
            if self._decoder is not None and content:
                content = self._decoder.decompress(content)
            if content:
                return content
        return b""

    def _unframed(self, data: bytes) -> bytes:
        if self._left is not None:
            self._left -= len(data)
        if self._chunks is None:
            return data
        try:
            content = self._chunks.feed(data)
        except ChunkedError as error:
            raise urllib3.exceptions.ProtocolError(str(error)) from error
        if self._chunks.is_done:
            self._left = 0
            self._is_spoilt = bool(self._chunks.rest)
        return content

    def _finish(self) -> bytes:
        is_short = self._left if self._chunks is None else not self._chunks.is_complete
        if is_short:
            raise http.client.IncompleteRead(b"", self._left)
        self._is_done = True
        rest: bytes = self._decoder.flush() if self._decoder is not None else b""
        # A gzip body whose end was cut is noticed only here; without a framing nothing else vouches for the end.
        inflater = getattr(self._decoder, "_obj", None)
        if self._chunks is None and self._left is None and not getattr(inflater, "eof", True):
            raise http.client.IncompleteRead(b"")
        if self._is_spoilt:
            self._raw.close()
        self._exchange.close()
        self._raw.release_conn()
        return rest

    def close(self) -> None:
        self._is_done = True
        self._raw.close()
        self._raw.release_conn()


class ForeignBody:
    """The body of a response that no adapter of ours has read: a mock's, or a plain HTTPAdapter's."""

    tap: Tap | None = None

    def __init__(self, raw: Any) -> None:
        self._raw = raw

    def read(self) -> bytes | None:
        read1 = getattr(self._raw, "read1", None)
        data: bytes = read1(_READ, decode_content=True) if read1 is not None else self._raw.read(_READ)
        return data

    def close(self) -> None:
        self._raw.close()
        getattr(self._raw, "release_conn", lambda: None)()


def body_of(response: requests.Response) -> Source:
    """Return the reader for a streamed response."""
    raw = response.raw
    exchange = getattr(raw, "_original_response", None)
    if isinstance(exchange, Exchange) and exchange.fp is not None:
        return Body(raw, exchange)
    return ForeignBody(raw)
