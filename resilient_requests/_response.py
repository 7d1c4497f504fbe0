"""A requests.Response whose legacy reading loops are prompt, and fail with the errors of a stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import requests
import urllib3.exceptions
from requests.utils import stream_decode_response_unicode

from resilient_requests._stream import Reader
from resilient_requests.exceptions import StreamProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ResilientResponse"]

_PROMPT = ("text/event-stream", "application/x-ndjson", "application/ndjson", "application/jsonl")


class ResilientResponse(requests.Response):
    """What a `ResilientAdapter` returns: a requests.Response to be read by one thread.

    ``attempts`` tells what it took. ``iter_lines()`` and ``iter_content(None)`` yield what has arrived, at once;
    ``iter_content(n)`` too for event streams, else blocks of n bytes as in requests. They raise `StreamIdle`,
    `StreamBroken`, `DeadlineExceeded` and `Cancelled`. ``raw`` is urllib3's, with urllib3's exceptions.
    """

    attempts: tuple[Any, ...] = ()
    is_read_in_attempt = False

    @classmethod
    def of(cls, response: requests.Response) -> ResilientResponse:
        """Return the same response as one of ours."""
        ours = cls()
        ours.__dict__.update(response.__dict__)
        return ours

    def iter_content(self, chunk_size: int | None = 1, decode_unicode: bool = False) -> Iterator[Any]:
        """Iterate over the body, decoded; see the class."""
        is_size = chunk_size is None or (isinstance(chunk_size, int) and chunk_size > 0)
        if self._content_consumed or self.is_read_in_attempt or not is_size or not hasattr(self.raw, "stream"):
            return super().iter_content(chunk_size, decode_unicode)  # type: ignore[call-overload,no-any-return]
        kind = self.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        chunks: Iterator[bytes] = _Arriving(self)
        if chunk_size is not None and kind not in _PROMPT:
            chunks = _blocks(chunks, chunk_size)
        return stream_decode_response_unicode(chunks, self) if decode_unicode else chunks

    def iter_lines(
        self, chunk_size: int | None = 512, decode_unicode: bool = False, delimiter: Any = None
    ) -> Iterator[Any]:
        """Iterate over the lines of the body, each as soon as its end has arrived; ``chunk_size`` is ignored."""
        chunks = self.iter_content(None, decode_unicode)
        return _split(chunks, delimiter) if delimiter else _lines(chunks)


class _Arriving:
    """Chunks of a body as they arrive; an object, since a generator would touch the pool when it is collected."""

    def __init__(self, response: ResilientResponse) -> None:
        self._response = response
        self._reader: Reader | None = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._reader is None:
            self._reader = Reader(self._response, None, None)
        try:
            data = self._reader.read()
        except StreamProtocolError as error:
            # The class that requests' users know for a body that does not match its Content-Encoding.
            if isinstance(error.__cause__, urllib3.exceptions.DecodeError):
                raise requests.exceptions.ContentDecodingError(error.__cause__) from error
            raise
        assert isinstance(data, bytes)  # no heartbeat was asked for
        if not data:
            self._response._content_consumed = True
            raise StopIteration
        self._reader.bytes_received += len(data)
        return data

    def close(self) -> None:
        """Give the connection back, or close it where the body has not ended."""
        if self._reader is not None:
            self._reader.close()

    def __del__(self) -> None:
        if self._reader is not None:
            self._reader.abandon()


def _blocks(chunks: Iterator[bytes], size: int) -> Iterator[bytes]:
    held = bytearray()
    for chunk in chunks:
        held += chunk
        whole = len(held) - len(held) % size
        for at in range(0, whole, size):
            yield bytes(held[at : at + size])
        del held[:whole]
    if held:
        yield bytes(held)


def _split(chunks: Iterator[Any], delimiter: Any) -> Iterator[Any]:
    held: list[Any] = []
    empty = delimiter[:0]
    for chunk in chunks:
        text = chunk
        if held and len(delimiter) > 1:
            # The delimiter itself may have been cut between two chunks.
            text, held = empty.join([*held, chunk]), []
        *whole, rest = text.split(delimiter)
        if whole:
            yield empty.join([*held, whole[0]])
            yield from whole[1:]
            held = []
        held.append(rest)
    if last := empty.join(held):
        yield last


def _lines(chunks: Iterator[Any]) -> Iterator[Any]:
    """Yield lines as ``splitlines`` cuts them, whatever the cuts between chunks, in linear time."""
    held: list[Any] = []
    after_cr = False
    for chunk in chunks:
        cr, lf, mark = ("\r", "\n", "x") if isinstance(chunk, str) else (b"\r", b"\n", b"x")
        # An LF behind a CR is the second half of a line end that has been used already.
        text = chunk[1:] if after_cr and chunk[:1] == lf else chunk
        after_cr = chunk.endswith(cr)
        if not text:
            continue
        # splitlines does not tell whether the last line has ended: with one more character it does.
        *lines, rest = (text + mark).splitlines()
        held_before, held = held, [rest[:-1]] if lines else [*held, rest[:-1]]
        if lines:
            yield text[:0].join([*held_before, lines[0]])
            yield from lines[1:]
    if held and (last := held[0][:0].join(held)):
        yield last
