"""Content codings undone as bytes arrive, in pieces of bounded size; no I/O."""

from __future__ import annotations

import importlib
import sys
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from urllib3.exceptions import DecodeError

from resilient_requests.stream import _inflate

if TYPE_CHECKING:
    from collections.abc import Collection

    import urllib3

__all__ = ["ContentDecoder"]

# The most content per step, and between the codings of a chain. For 2 MB of text, 256 KiB would
# save 7 % of the time with gzip and 2 % with br, at four times the memory per stream.
_PIECE = 64 * 1024
_MOST_CODINGS = 5  # as in urllib3
# In bits: 4 MiB. Only the innermost coding gives content. With zstd's own limit, each outer coding
# of a chain could hold 128 MiB.
_OUTER_WINDOW = 22


def _imported(*names: str) -> Any:
    for name in names:
        with suppress(ImportError):
            return importlib.import_module(name)
    return None


# The packages that urllib3 imports, in its order; urllib3 < 2.6 uses `zstandard`.
_BROTLI = _imported("brotlicffi", "brotli")
_ZSTD = _imported("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
_ZSTANDARD: Any = _imported("zstandard") if _ZSTD is None else None


class _TooLarge(ValueError):
    """The body needs more memory than the limit."""


_ERRORS: tuple[type[Exception], ...] = (
    zlib.error,
    _TooLarge,
    *(() if _BROTLI is None else (_BROTLI.error,)),
    *(module.ZstdError for module in (_ZSTD, _ZSTANDARD) if module is not None),
)


class Coding(Protocol):
    """Undoes one coding, or a chain of them."""

    has_more: bool  # perhaps: only another call can tell

    def decode(self, data: bytes, limit: int) -> bytes:
        """Return at most ``limit`` bytes of content; ``data`` is b"" while there is more."""

    def is_whole(self, *, framed: bool) -> bool:
        """Return True if the body may end here; see `ContentDecoder.is_whole`."""


class ContentDecoder:
    """Undoes the Content-Encoding of one response, as urllib3 does; used by one thread.

    Codings that urllib3 leaves alone here are left alone. Raises urllib3's DecodeError for bytes
    that are not in the coding, and for any bytes under more than five codings.
    """

    def __init__(self, raw: urllib3.HTTPResponse) -> None:
        # Not get(): urllib3's raises a KeyError inside if there is none.
        known = "content-encoding" in raw.headers
        self._names = raw.headers["content-encoding"].lower() if known else ""
        self._coding = _coding_of(self._names, raw.CONTENT_DECODERS) if self._names else None
        self.is_coded = self._coding is not None
        self.has_more = False  # True if `decode` may return content without more bytes

    def decode(self, data: bytes) -> bytes:
        """Return the content of the next bytes of the body, at most 64 KiB if there is a coding.

        While ``has_more``, call again with b"". An empty result says nothing about the end.
        """
        if self._coding is None:
            return data
        try:
            content = self._coding.decode(data, _PIECE)
        except _ERRORS as error:
            said = f"Received response with content-encoding: {self._names}"
            raise DecodeError(f"{said}, but failed to decode it.", error) from error
        self.has_more = self._coding.has_more
        return content

    def is_whole(self, *, framed: bool) -> bool:
        """Return True if the body may end here; nothing can be decoded afterwards.

        ``framed``: the framing tells the end, so a cut would have been noticed. Then three more
        bodies count as whole: one that was only flushed, one without its checksum, and one with the
        beginning of another gzip member that has given nothing.
        """
        return self._coding is None or (not self.has_more and self._coding.is_whole(framed=framed))


def _coding_of(names: str, known: Collection[str]) -> Coding | None:
    """Return the decoder for a header in lower case; None if its codings are left alone."""
    several = [name.strip() for name in names.split(",")]
    if not any(name in known for name in (several if len(several) > 1 else [names])):
        return None
    if len(several) > _MOST_CODINGS:
        return _TooMany(len(several))
    # The last coding was applied last. Beside others, urllib3 takes an unknown one for deflate.
    codings = [
        _one(name if name in known else "deflate", is_outer=place > 0)
        for place, name in enumerate(several)
    ]
    return codings[0] if len(codings) == 1 else _Chain(codings[::-1])


def _one(name: str, *, is_outer: bool) -> Coding:
    if name == "br":
        return _Brotli(is_outer=is_outer)
    if name == "zstd":
        return _Zstd(is_outer=is_outer)
    return _inflate.deflate() if name == "deflate" else _inflate.gzip()


class _TooMany:
    """More codings than any server needs; an empty body is in none of them."""

    has_more = False

    def __init__(self, number: int) -> None:
        self._number = number

    def decode(self, _data: bytes, _limit: int) -> bytes:
        number = f"{self._number} > {_MOST_CODINGS}"
        raise DecodeError(f"Too many content encodings in the chain: {number}")

    def is_whole(self, *, framed: bool) -> bool:  # noqa: ARG002  # from the protocol
        return True


class _Chain:
    """Codings that were applied one over the other; the outermost comes first."""

    has_more = False

    def __init__(self, codings: list[Coding]) -> None:
        self._codings = codings

    def decode(self, data: bytes, limit: int) -> bytes:
        # An inner coding that has more goes first. Otherwise the data that it holds would grow.
        first = max((at for at, coding in enumerate(self._codings) if coding.has_more), default=0)
        for coding in self._codings[first:]:
            data = coding.decode(data, limit)
        self.has_more = any(coding.has_more for coding in self._codings)
        return data

    def is_whole(self, *, framed: bool) -> bool:
        return all(coding.is_whole(framed=framed) for coding in self._codings)


class _Packaged:
    """A coding undone by a package without an exact limit: it gets few bytes at a time."""

    _sip = sys.maxsize  # bytes at a time

    def __init__(self, *, is_outer: bool) -> None:
        self._is_outer = is_outer
        self._rest = b""  # input that the package has not seen
        self._held = memoryview(b"")  # output beyond the limit
        self.has_more = False

    def decode(self, data: bytes, limit: int) -> bytes:
        pieces, at, left = [], 0, limit
        if self._held:
            pieces.append(piece := bytes(self._held[:limit]))
            self._held, left = self._held[limit:], limit - len(piece)
        if self._rest:
            data = self._rest + data
        while left > 0 and (at < len(data) or self.has_more):
            sip = data[at : at + self._sip]
            pieces.append(piece := self._give(sip, left))
            at, left = at + len(sip), left - len(piece)
            self.has_more = left <= 0 or self._is_open()
        self._rest = data[at:]
        content = b"".join(pieces)
        if left < 0:
            self._held, content = memoryview(content)[limit:], content[:limit]
        return content

    def _give(self, data: bytes, limit: int) -> bytes:
        """Return the package's output for these bytes, about ``limit`` if it takes a limit."""
        raise NotImplementedError

    def _is_open(self) -> bool:
        """Return True if the package may have more output without more input."""
        raise NotImplementedError


class _Brotli(_Packaged):
    """RFC 7932, by the package `brotlicffi` or `brotli`."""

    _has_limit = hasattr(getattr(_BROTLI, "Decompressor", None), "can_accept_more_data")  # 1.2
    # RFC 7932 9.2: a meta-block takes at least 10 bytes and gives at most 16 MiB.
    _sip = _Packaged._sip if _has_limit else 8
    # An empty last meta-block. Only a decompressor between two meta-blocks takes it and ends.
    _LAST = b"\x03"

    _package: Any = None  # made at the first byte, because an empty body is whole
    _has_given = False
    _is_between: bool | None = None

    def _give(self, data: bytes, limit: int) -> bytes:
        if self._package is None:
            self._package = self._begun(data[0])
        if self._has_limit:
            content: bytes = self._package.process(data, output_buffer_limit=limit)
        else:
            content = self._package.process(data)
        self._has_given = bool(content)
        return content

    def _begun(self, first: int) -> Any:
        # RFC 7932 9.1: the four lowest bits give each window of more than 2**17 bytes.
        if self._is_outer and first & 1 and 17 + (first >> 1 & 7) > _OUTER_WINDOW:
            raise _TooLarge(f"an outer coding has a window of more than 2**{_OUTER_WINDOW} bytes")
        return _BROTLI.Decompressor()

    def _is_open(self) -> bool:
        # Each version may keep output until the next call, even if it (1.2.1) asks for more input.
        return self._has_given

    def is_whole(self, *, framed: bool) -> bool:
        if self._is_between is None:
            if self._package is None or self._package.is_finished():
                return True
            # The test ends the decompressor, which cannot be copied, so it runs once.
            self._is_between = self._is_between_blocks()
        return framed and bool(self._is_between)

    def _is_between_blocks(self) -> bool:
        with suppress(_BROTLI.error):
            return not self._package.process(self._LAST) and bool(self._package.is_finished())
        return False


class _Zstd(_Packaged):
    """Frames of RFC 8878, by `compression.zstd`, its backport, or `zstandard` without a limit."""

    # RFC 8878 3.1.1.2: a block takes at least 4 bytes and gives at most 128 KiB.
    _sip = _Packaged._sip if _ZSTD is not None else 128

    _frame: Any = None  # made at the first byte, because an empty body is whole

    def _give(self, data: bytes, limit: int) -> bytes:
        if self._frame is None or self._frame.eof:
            data = getattr(self._frame, "unused_data", b"") + data
            if not data:
                return b""
            self._frame = self._begun()
        frame = self._frame
        content: bytes = frame.decompress(data) if _ZSTD is None else frame.decompress(data, limit)
        return content

    def _begun(self) -> Any:
        if _ZSTD is None:
            largest = {"max_window_size": 1 << _OUTER_WINDOW} if self._is_outer else {}
            return _ZSTANDARD.ZstdDecompressor(**largest).decompressobj()
        name = _ZSTD.DecompressionParameter.window_log_max
        return _ZSTD.ZstdDecompressor(options={name: _OUTER_WINDOW} if self._is_outer else None)

    def _is_open(self) -> bool:
        if self._frame.eof:
            return bool(self._frame.unused_data)
        return _ZSTD is not None and not self._frame.needs_input

    def is_whole(self, *, framed: bool) -> bool:  # noqa: ARG002  # a frame marks its own end
        return self._frame is None or bool(self._frame.eof)
