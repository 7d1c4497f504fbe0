"""The loops that requests' users write over a body: blocks, text and lines, one after the other or in turns."""

from __future__ import annotations

import bisect
import codecs
import itertools
import re
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

import requests
import urllib3.exceptions

from resilient_requests.exceptions import StreamProtocolError
from resilient_requests.stream._reader import Reader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import GeneratorType

    from resilient_requests.stream._body import Turn

__all__ = ["Arriving", "Loop", "Text", "blocks", "lines", "split"]


class Below(Protocol):
    """What a generator reads from, and gives back to what it has read and not yielded."""

    def unread(self, data: Any) -> None: ...
    def skip_lf(self) -> None: ...


class Loop:
    """What generators make of chunks, one over the other, as an object that can be closed and raises its error again.

    When another loop reads, this one gives back what it holds, and its generators begin anew behind what that takes.
    """

    _made: Sequence[GeneratorType[Any, None, None]] = ()

    def __init__(self, chunks: Iterator[Any]) -> None:
        self._chunks = chunks
        self._layers: list[Callable[[Any, Any], Any]] = []
        if isinstance(chunks, Arriving):
            chunks.turn = weakref.ref(self)
        self._begin()

    def over(self, layer: Callable[[Any, Any], Any]) -> Loop:
        """Put a generator on top: made of the items below it, and of what takes back those it has not used."""
        self._layers.append(layer)
        self._begin()
        return self

    def _begin(self) -> None:
        items: Any = self._chunks
        below: Below | None = items if isinstance(items, Arriving) else None
        made = []
        for layer in self._layers:
            items = layer(items, below)
            made.append(items)
            below = layer if isinstance(layer, Text) else below
        # A generator is at its end once an error has passed through it: the chunks then raise it anew.
        self._items, self._made = itertools.chain(items, self._chunks), made

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            return next(self._items)
        except StopIteration:
            if isinstance(self._chunks, Arriving):
                self._chunks.ended()
            raise

    def give_back(self) -> None:
        """Let another loop read what this one holds."""
        # One that runs is in another thread, which this one is about to end, or was interrupted by a signal handler.
        if self._made and not self._made[-1].gi_running:
            self._stop()
            self._begin()

    def _stop(self) -> None:
        for generator in (
            self._made
        ):  # from below, since what one gives back comes before what those below it have
            with suppress(ValueError):  # it runs since this moment
                generator.close()

    def close(self) -> None:
        """End the loop; the connection is given back, or closed where the body has not ended."""
        self._stop()
        chunks, self._chunks = self._chunks, iter(())
        self._layers = []
        self._begin()
        if hasattr(chunks, "close"):
            chunks.close()

    def __del__(self) -> None:
        self._stop()


class Arriving:
    """Chunks of a body as they arrive; an object, since a generator would touch the pool when it is collected.

    ``closes``: the connection is closed when the loop is dropped; else the next loop goes on where it has stopped.
    """

    def __init__(self, response: Any, *, closes: bool = False) -> None:
        self._response = response
        self._closes = closes
        self._reader: Reader | None = None
        self.turn: Turn | None = None  # of the loop that holds some of it

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        reader = self._reader or self._begun()
        try:
            data = reader.read()
        except StreamProtocolError as error:
            # The class that requests' users know for a body that does not match its Content-Encoding.
            if isinstance(error.__cause__, urllib3.exceptions.DecodeError):
                reader.error = requests.exceptions.ContentDecodingError(error.__cause__)
                raise reader.error from error
            raise
        assert isinstance(data, bytes)  # no heartbeat was asked for
        if not data:
            raise StopIteration
        return data

    def _begun(self) -> Reader:
        reader, response = Reader(self._response, turn=self.turn), self._response
        source = reader.source
        if (
            reader.is_done
            and not source.is_closed
            and (source.is_dropped or not response._is_begun)
        ):
            raise requests.exceptions.StreamConsumedError
        self._reader, response._is_begun = reader, True
        return reader

    def ended(self) -> None:
        """Note that somebody was told of the end: from now on the body is consumed."""
        self._response._content_consumed = True

    @property
    def is_between_chunks(self) -> bool:
        """Whether what has arrived ends with a chunk of the chunked framing."""
        return self._reader is not None and self._reader.source.is_between_chunks

    def unread(self, data: bytes) -> None:
        """Take back what a loop that was dropped, or lets another read, has not yielded."""
        if self._reader is not None:
            self._reader.bytes_received -= len(data)
            self._reader.source.unread(data)

    def skip_lf(self) -> None:
        """Leave out an LF that comes next."""
        if self._reader is not None:
            self._reader.source.skip_lf()

    def close(self) -> None:
        """Give the connection back, or close it where the body has not ended."""
        if self._reader is not None:
            self._reader.close()

    def __del__(self) -> None:
        if self._reader is not None and self._closes:
            self._reader.abandon()


def blocks(chunks: Arriving, size: int, *, is_prompt: bool) -> Iterator[bytes]:
    """Yield blocks of at most ``size`` bytes; shorter ones where requests does, at the end and behind a chunk.

    ``is_prompt``: and wherever no more has arrived.
    """
    held = bytearray()
    at = 0
    try:
        for chunk in chunks:
            held += chunk
            whole = (
                len(held) if is_prompt or chunks.is_between_chunks else len(held) - len(held) % size
            )
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


class Text:
    """Decodes chunks as requests does, and finds the bytes of text that is given back."""

    def __init__(self, response: Any) -> None:
        self._response = response
        self._below: Any = None
        self._decoder: codecs.IncrementalDecoder | None = None
        self._before: tuple[bytes, int] = (
            b"",
            0,
        )  # the state in which the last chunk found the decoder
        self._chunk = b""
        self._pending = 0  # so many bytes at its end were given back

    def __call__(self, chunks: Iterator[bytes], below: Below) -> Iterator[Any]:
        """Yield the text of each chunk; the chunk where the response has no encoding."""
        self._below = below
        if self._response.encoding is None:
            for chunk in chunks:
                yield chunk
            return
        if self._decoder is None:
            self._decoder = codecs.getincrementaldecoder(self._response.encoding)(errors="replace")
        decoder = self._decoder
        try:
            for chunk in chunks:
                self._before, self._chunk = decoder.getstate(), chunk
                if text := decoder.decode(chunk):
                    yield text
        except GeneratorExit:
            # Half a character is the next loop's; what the decoder knows of byte order and shifts stays with this one.
            pending, flags = decoder.getstate()
            decoder.setstate((b"", flags))
            self._pending = len(pending)
            below.unread(pending)
            raise
        if text := decoder.decode(b"", final=True):
            yield text

    def unread(self, text: Any) -> None:
        """Take back the end of the text that was yielded last."""
        decoder = self._decoder
        if decoder is None or not text:
            self._below.unread(text or b"")
            return
        pending, flags = self._before
        data = pending + self._chunk

        def decoded(size: int) -> int:
            decoder.setstate((b"", flags))
            return len(decoder.decode(data[:size]))

        kept = decoded(len(data)) - len(text)
        size = bisect.bisect_left(range(len(data)), kept, key=decoded)
        decoded(size)  # and leaves the decoder there
        self._below.unread(data[size : len(data) - self._pending])

    def skip_lf(self) -> None:
        """Do nothing: how many bytes it has, only the decoder knows."""


def split(chunks: Iterator[Any], delimiter: Any, below: Below | None = None) -> Iterator[Any]:
    """Yield what stands between delimiters, whatever the cuts between chunks, in linear time."""
    empty, overlap = delimiter[:0], len(delimiter) - 1
    held: list[Any] = []
    tail = empty  # so much of what is held as may be the beginning of a delimiter
    for chunk in chunks:
        *whole, rest = (tail + chunk).split(delimiter)
        if whole:
            whole[0] = empty.join([*held, whole[0]])
            held = []
            pieces = iter(whole)
            try:
                yield from pieces
            except GeneratorExit:
                if below is not None:
                    below.unread(delimiter.join([*pieces, rest]))
                raise
        cut = len(rest) - overlap if overlap else len(rest)
        held.append(rest[: max(cut, 0)])
        tail = rest[max(cut, 0) :]
    if last := empty.join([*held, tail]):
        yield last


def lines(chunks: Iterator[Any], below: Below | None = None) -> Iterator[Any]:
    """Yield lines that end at CR, LF or CRLF, whatever the cuts between chunks, in linear time."""
    held: list[Any] = []
    after_cr = False
    for chunk in chunks:
        ends: Any = ("\r", "\n") if isinstance(chunk, str) else (b"\r", b"\n")
        cr, lf = ends
        # An LF behind a CR is the second half of a line end that has been used already.
        text = chunk[1:] if after_cr and chunk[:1] == lf else chunk
        after_cr = chunk[-1:] == cr if chunk else after_cr
        *lines, rest = (text.replace(cr + lf, lf).replace(cr, lf) if cr in text else text).split(lf)
        if lines:
            lines[0] = text[:0].join([*held, lines[0]])
            held = []
        if rest:
            held.append(rest)
        whole = iter(lines)
        try:
            yield from whole
        except GeneratorExit:
            if below is not None:
                _unread_lines(below, text, len(lines) - len(list(whole)))
            raise
    if held:
        yield held[0][:0].join(held)


def _unread_lines(below: Below, text: Any, used: int) -> None:
    """Give back what stands behind so many lines, as it came."""
    pattern: Any = "\r\n?|\n" if isinstance(text, str) else b"\r\n?|\n"
    (last,) = itertools.islice(re.finditer(pattern, text), used - 1, used)
    below.unread(text[last.end() :])
    if last.end() == len(text) and last[0] in ("\r", b"\r"):
        below.skip_lf()
