"""An HTTP response: the bytes of its head, and the steps that send it."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from types import NoneType
from typing import Literal, TypeAlias, get_args

from resilient_requests.testing._arguments import (
    LONGEST,
    check,
    check_choice,
    check_text,
    check_wait,
)
from resilient_requests.testing._steps import (
    Fin,
    FinThenReset,
    Pause,
    Reset,
    Send,
    Silence,
    Step,
    Wait,
)

Ending: TypeAlias = Literal["reset", "fin", "silence", "fin_then_reset"]
Framing: TypeAlias = Literal["length", "chunked", "close"]
Headers: TypeAlias = Mapping[str, str] | Iterable[tuple[str, str]]

_ENDINGS: Mapping[Ending, Step] = {
    "reset": Reset(),
    "fin": Fin(),
    "silence": Silence(),
    "fin_then_reset": FinThenReset(),
}


@dataclass(frozen=True, kw_only=True)
class Response:
    """The options that all responses share; `respond` explains them.

    Raises TypeError or ValueError naming the parameter.
    """

    status: int
    framing: Framing
    gzip: bool
    headers: tuple[tuple[str, str], ...]
    keep_alive: str | None
    interim: tuple[int, ...]
    head_pause: Wait | None
    ending: Ending | None
    reason: str | None = None

    def __post_init__(self) -> None:
        check("status", self.status, int, least=100, most=999)
        check_choice("framing", self.framing, get_args(Framing))
        check("gzip", self.gzip, bool)
        check_text("keep_alive", self.keep_alive, NoneType)
        for status in self.interim:
            check("interim (an item)", status, int, least=100, most=199)
        check_wait("head_pause", self.head_pause, NoneType)
        if self.ending is not None:
            check_choice("ending", self.ending, _ENDINGS)
        check_text("reason", self.reason, NoneType)

    def head(self, length: int | None) -> bytes:
        """Return the head for a body of that length; None: the status has no body."""
        found = list(self.headers)
        if length is not None and self.framing == "length":
            found.append(("Content-Length", str(length)))
        elif length is not None and self.framing == "chunked":
            found.append(("Transfer-Encoding", "chunked"))
        # RFC 9112 6.3: without a length and chunks, the end of the connection ends the body.
        elif length is not None and not self._says_close:
            found.append(("Connection", "close"))
        if self.gzip:
            found.append(("Content-Encoding", "gzip"))
        if self.keep_alive is not None:
            found.append(("Keep-Alive", self.keep_alive))
        reason = _phrase(self.status) if self.reason is None else self.reason
        lines = [f"HTTP/1.1 {self.status} {reason}", *(": ".join(pair) for pair in found)]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def encode(self, pieces: Iterable[bytes], *, is_whole: bool = True) -> list[bytes]:
        """Return the pieces of a body in its coding; only a whole body gets gzip's trailer.

        Each piece is flushed, so that it can be decoded when it arrives.
        """
        if not self.gzip:
            return list(pieces)
        coder = zlib.compressobj(wbits=31)  # 31 is gzip, of the largest window
        packed = [coder.compress(piece) + coder.flush(zlib.Z_SYNC_FLUSH) for piece in pieces]
        return [*packed, coder.flush()] if is_whole else packed

    def frame(self, pieces: Iterable[bytes]) -> list[bytes]:
        """Return the pieces of a body in its framing, the last chunk included."""
        if self.framing != "chunked":
            return list(pieces)
        # An empty chunk would end the body.
        return [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece] + [b"0\r\n\r\n"]

    def sends(self, pieces: Iterable[bytes]) -> list[Send]:
        """Return the steps that send the whole response; the head goes out with the first piece."""
        coded = self.encode(pieces)
        # RFC 9110 15.3.5 and 15.4.5: 204 and 304 have no body, and 204 has no framing either.
        if self.status in {204, 304}:
            return [Send(self.head(None))]
        first, *rest = self.frame(coded) or [b""]
        return [Send(self.head(sum(map(len, coded))), first), *(Send(body=one) for one in rest)]

    def opening(self) -> Iterator[Step]:
        """Yield the steps before the head: interim heads, and the pause."""
        for status in self.interim:
            yield Send(f"HTTP/1.1 {status} {_phrase(status)}\r\n\r\n".encode())
        if self.head_pause is not None:
            yield Pause(self.head_pause)

    def closing(self, *, is_cut: bool = False) -> Iterator[Step]:
        """Yield the steps behind the last byte; a cut without an ending is a reset."""
        if self.ending is not None:
            yield _ENDINGS[self.ending]
        elif is_cut:
            yield Reset()
        elif self.framing == "close" or self._says_close:
            yield Fin(notify=True)

    @property
    def _says_close(self) -> bool:
        return ("connection", "close") in [
            (name.lower(), value.lower()) for name, value in self.headers
        ]


def split(body: bytes, chunks: Sequence[int | bytes]) -> list[bytes]:
    """Return the given pieces, then the body in the given sizes; the last size repeats."""
    pieces = [chunk for chunk in chunks if isinstance(chunk, bytes)]
    sizes = [chunk for chunk in chunks if isinstance(chunk, int)] or [len(body) or 1]
    while body:
        pieces.append(body[: sizes[0]])
        body = body[sizes[0] :]
        sizes = sizes[1:] or sizes
    return pieces


def first_bytes(sends: Iterable[Send], size: int) -> list[Send]:
    """Return the steps that send only so many bytes."""
    kept = []
    for send in sends:
        kept.append(Send(send.data[:size], send.body[: max(0, size - len(send.data))]))
        size = max(0, size - len(send.data) - len(send.body))
    return [send for send in kept if send != Send()]


def dripped(sends: Iterable[Send], seconds: float) -> Iterator[Step]:
    """Yield steps that send single bytes, each after a pause."""
    check("drip", seconds, float, int, least=0, most=LONGEST)
    for send in sends:
        singles = [Send(bytes([byte])) for byte in send.data]
        singles += [Send(body=bytes([byte])) for byte in send.body]
        for single in singles:
            yield from (Pause(seconds), single)


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase if status in set(HTTPStatus) else "Unknown"
