"""A requests.Response whose legacy reading loops are prompt, and fail with the errors of a stream."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, cast

import requests
import urllib3.exceptions
from requests.utils import stream_decode_response_unicode

from resilient_requests._body import is_rewired
from resilient_requests._stream import EVENT_STREAM, NDJSON, Reader, media_type
from resilient_requests.exceptions import StreamProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resilient_requests._attempt import AttemptRecord
    from resilient_requests._body import Source

__all__ = ["ResilientResponse"]

_PROMPT = NDJSON | {EVENT_STREAM}


class ResilientResponse(requests.Response):
    """What a `ResilientAdapter` returns: a requests.Response, to be read by one thread.

    ``attempts`` tells what it took. ``iter_lines()`` and ``iter_content(None)`` yield what has arrived, at once;
    ``iter_content(n)`` too for event streams, at most n bytes at a time; else blocks of n bytes as in requests. They
    raise `StreamIdle`, `StreamBroken`, `DeadlineExceeded` and `Cancelled`. ``raw`` is urllib3's, with urllib3's
    exceptions.
    """

    __attrs__ = [*requests.Response.__attrs__, "attempts"]  # noqa: RUF012  # requests' own name and form
    attempts: tuple[AttemptRecord, ...] = ()
    _source: Source | None = None  # kept by `body_of`, so that one loop can go on where another has stopped

    @classmethod
    def of(cls, response: requests.Response) -> ResilientResponse:
        """Return the same response as one of ours."""
        response.__class__ = cls  # a second object would be filled for nothing, and make a second jar of cookies
        return cast("ResilientResponse", response)

    def close(self) -> None:
        """Give the connection back, or close it where the body has not ended; ends another thread's read, too."""
        if self._content_consumed or not hasattr(self.raw, "stream"):
            super().close()
        else:
            Reader(self).close()

    @property
    def content(self) -> Any:
        """The whole body, as bytes."""
        # requests says None where there is no status, and that no body has been read before.
        if self._content is False and self.status_code and self._is_for_us:
            # Not through blocks of some size, which would only be joined again.
            self._content = b"".join(_Arriving(self))
        return self._content if self._content and self._content_consumed else super().content

    def iter_content(self, chunk_size: int | None = 1, decode_unicode: bool = False) -> Iterator[Any]:
        """Iterate over the body, decoded; see the class."""
        is_ours = chunk_size is None or (type(chunk_size) is int and chunk_size > 0)
        if not is_ours or not self._is_for_us:
            return super().iter_content(chunk_size, decode_unicode)  # type: ignore[call-overload,no-any-return]
        kind = media_type(self)
        arriving = _Arriving(self, closes=kind in _PROMPT)
        blocks = None if chunk_size is None else _blocks(arriving, chunk_size, is_prompt=kind in _PROMPT)
        chunks = arriving if blocks is None else _Loop(blocks, arriving)
        return _Loop(stream_decode_response_unicode(chunks, self), chunks) if decode_unicode else chunks

    @property
    def _is_for_us(self) -> bool:
        """Whether there is a body, and nobody wants requests to read it."""
        return not self._content_consumed and hasattr(self.raw, "stream") and not is_rewired(self.raw)

    def iter_lines(
        self,
        chunk_size: int | None = 512,  # noqa: ARG002  # requests' own; lines come when they come
        decode_unicode: bool = False,
        delimiter: Any = None,
    ) -> Iterator[Any]:
        """Iterate over the lines of the body, each as soon as its end has arrived; ``chunk_size`` is ignored.

        With ``decode_unicode`` too, lines end at CR, LF and CRLF only: U+2028 and its kin are data.
        """
        encoding = self.encoding if decode_unicode else None
        # In UTF-16 and its kin a line end is not found before decoding.
        is_decoded = decode_unicode if delimiter else _is_wide(encoding)
        chunks = self.iter_content(None, is_decoded)
        lines = _split(chunks, delimiter) if delimiter else _lines(chunks)
        if encoding is not None and not is_decoded:
            lines = (line.decode(encoding, "replace") for line in lines)
        return _Loop(lines, chunks)


def _is_wide(encoding: str | None) -> bool:
    return encoding is not None and "\r\n".encode(encoding, "replace") != b"\r\n"


class _Loop:
    """What a generator makes of chunks, as an object that can be closed and raises its error again and again."""

    def __init__(self, items: Iterator[Any], chunks: Any) -> None:
        # A generator is at its end once an error has passed through it: the chunks then raise it anew.
        self._items = itertools.chain(items, chunks)
        self._chunks = chunks

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return next(self._items)

    def close(self) -> None:
        """End the loop; the connection is given back, or closed where the body has not ended."""
        self._items = itertools.chain(())
        if hasattr(self._chunks, "close"):
            self._chunks.close()


class _Arriving:
    """Chunks of a body as they arrive; an object, since a generator would touch the pool when it is collected.

    ``closes``: the connection is closed when the loop is dropped; else the next loop goes on where it has stopped.
    """

    def __init__(self, response: ResilientResponse, *, closes: bool = False) -> None:
        self._response = response
        self._closes = closes
        self._reader: Reader | None = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._reader is None:
            reader = Reader(self._response)
            if reader.is_done and not reader.source.is_closed:
                raise requests.exceptions.StreamConsumedError
            self._reader = reader
        try:
            data = self._reader.read()
        except StreamProtocolError as error:
            # The class that requests' users know for a body that does not match its Content-Encoding.
            if isinstance(error.__cause__, urllib3.exceptions.DecodeError):
                self._reader.error = requests.exceptions.ContentDecodingError(error.__cause__)
                raise self._reader.error from error
            raise
        assert isinstance(data, bytes)  # no heartbeat was asked for
        if not data:
            self._response._content_consumed = True
            raise StopIteration
        return data

    @property
    def is_between_chunks(self) -> bool:
        """Whether what has arrived ends with a chunk of the chunked framing."""
        return self._reader is not None and self._reader.source.is_between_chunks

    def unread(self, data: bytes) -> None:
        """Take back what a loop that was dropped has not yielded."""
        if self._reader is not None:
            self._reader.source.unread(data)

    def close(self) -> None:
        """Give the connection back, or close it where the body has not ended."""
        if self._reader is not None:
            self._reader.close()

    def __del__(self) -> None:
        if self._reader is not None and self._closes:
            self._reader.abandon()


def _blocks(chunks: _Arriving, size: int, *, is_prompt: bool) -> Iterator[bytes]:
    """Yield blocks of at most ``size`` bytes; shorter ones where requests does, at the end and behind a chunk.

    ``is_prompt``: and wherever no more has arrived.
    """
    held = bytearray()
    at = 0
    try:
        for chunk in chunks:
            held += chunk
            whole = len(held) if is_prompt or chunks.is_between_chunks else len(held) - len(held) % size
            while at < whole:
                at += size
                yield bytes(held[at - size : at])
            del held[:whole]
            at = 0
        if held:
            at = len(held)
            yield bytes(held)
    except GeneratorExit:
        chunks.unread(bytes(held[at:]))
        raise


def _split(chunks: Iterator[Any], delimiter: Any) -> Iterator[Any]:
    """Yield what stands between delimiters, whatever the cuts between chunks, in linear time."""
    empty, overlap = delimiter[:0], len(delimiter) - 1
    held: list[Any] = []
    tail = empty  # so much of what is held as may be the beginning of a delimiter
    for chunk in chunks:
        *whole, rest = (tail + chunk).split(delimiter)
        if whole:
            yield empty.join([*held, whole[0]])
            yield from whole[1:]
            held = []
        cut = len(rest) - overlap if overlap else len(rest)
        held.append(rest[: max(cut, 0)])
        tail = rest[max(cut, 0) :]
    if last := empty.join([*held, tail]):
        yield last


def _lines(chunks: Iterator[Any]) -> Iterator[Any]:
    """Yield lines that end at CR, LF or CRLF, whatever the cuts between chunks, in linear time."""
    held: list[Any] = []
    whole: Iterator[Any] = iter(())
    after_cr = False
    try:
        for chunk in chunks:
            ends: Any = ("\r", "\n") if isinstance(chunk, str) else (b"\r", b"\n")
            cr, lf = ends
            # An LF behind a CR is the second half of a line end that has been used already.
            text = chunk[1:] if after_cr and chunk[:1] == lf else chunk
            after_cr = chunk[-1:] == cr if chunk else after_cr
            if cr in text:
                text = text.replace(cr + lf, lf).replace(cr, lf)
            *lines, rest = text.split(lf)
            if lines:
                lines[0] = text[:0].join([*held, lines[0]])
                held = []
            if rest:
                held.append(rest)
            whole = iter(lines)
            yield from whole
        if held:
            yield held[0][:0].join(held)
    except GeneratorExit:
        if isinstance(chunks, _Arriving):
            chunks.unread(b"\n".join([*whole, b"".join(held)]))
        raise
