"""gzip and deflate: headers and trailers are read here, since zlib hides its position in them."""

from __future__ import annotations

import enum
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Inflated", "deflate", "gzip"]

# A stored block (RFC 1951 3.2.4), to test where a decompressor stands. Only one between two blocks
# returns its text. The unused bits of its first byte are ones: zeros would end a block with fixed
# codes.
_TEXT = b"nothing is held between 2 blocks"
_BLOCK = b"\xf8\x20\x00\xdf\xff" + _TEXT
# RFC 1952 sets no limit for a header. Its extra field alone may have 64 KiB.
_LONGEST_HEADER = 128 * 1024
# The code tables of a block take some hundred bytes. A later member that is valid for this many
# bytes is no garbage, even if it has given nothing yet.
_LONGEST_GARBAGE = 4096


class _Format(NamedTuple):
    """The end of a format: a checksum of the content, and a trailer of checksum and size."""

    checksum: Callable[..., int]
    trailer: Callable[[int, int], bytes]


_GZIP = _Format(
    zlib.crc32, lambda crc, size: ((size & 0xFFFFFFFF) << 32 | crc).to_bytes(8, "little")
)
_ZLIB = _Format(zlib.adler32, lambda adler, _size: adler.to_bytes(4, "big"))
_BARE = _Format(lambda _content, _sum=0: 0, lambda _sum, _size: b"")


class _Part(enum.Enum):
    HEADER = "header"
    BLOCKS = "blocks"
    TRAILER = "trailer"
    BEHIND = "behind"  # bytes after the whole are dropped


class Inflated:
    """Blocks between a header and a trailer, once or in several members; a `Coding`.

    Raises zlib.error for bytes that are none of that.
    """

    def __init__(
        self, header: Callable[[bytes], tuple[_Format, int] | None], *, has_members: bool
    ) -> None:
        self._header = header
        self._part = _Part.HEADER
        self._behind = _Part.HEADER if has_members else _Part.BEHIND
        self._rest = b""  # input that was not looked at yet
        # Blocks of a later member without content so far, which may be garbage; None if it is not.
        self._barren: bytes | None = None
        self.has_more = False

    def __repr__(self) -> str:
        return f"<Inflated {self._part.value}>"

    def decode(self, data: bytes, limit: int) -> bytes:
        """Return at most ``limit`` bytes of content."""
        self._rest += data
        pieces: list[bytes] = []
        part = None
        while limit > 0 and self._part is not part:
            part = self._part
            try:
                if part is _Part.BLOCKS:
                    pieces.append(piece := self._inflate(limit))
                    limit -= len(piece)
                elif part is _Part.HEADER:
                    self._begin()
                elif part is _Part.TRAILER:
                    self._end()
                else:
                    self._rest = b""
            except zlib.error:
                # requests and other clients accept garbage after a whole member.
                if self._barren is None or (part is _Part.BLOCKS and not self._is_garbage()):
                    raise
                self._part = _Part.BEHIND
        # At the limit, zlib may hold the rest of a copy even if it has taken all of its input.
        self.has_more = limit <= 0
        return b"".join(pieces)

    def _begin(self) -> None:
        header = self._header(self._rest)
        if header is not None:
            self._format, size = header
            self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
            self._sum, self._size = self._format.checksum(b""), 0
            self._part, self._rest = _Part.BLOCKS, self._rest[size:]
        elif len(self._rest) > _LONGEST_HEADER:
            raise zlib.error(f"the header of gzip has more than {_LONGEST_HEADER} bytes")

    def _inflate(self, limit: int) -> bytes:
        data = self._rest
        content = self._inflater.decompress(data, limit)
        if self._inflater.eof:
            self._part, self._rest = _Part.TRAILER, self._inflater.unused_data
        else:
            self._rest = self._inflater.unconsumed_tail
        if self._barren is not None:
            self._barren += data[: len(data) - len(self._rest)]
            if content or len(self._barren) > _LONGEST_GARBAGE:
                self._barren = None
        self._sum = self._format.checksum(content, self._sum)
        self._size += len(content)
        return content

    def _end(self) -> None:
        trailer = self._format.trailer(self._sum, self._size)
        came = self._rest[: len(trailer)]
        if not trailer.startswith(came):
            raise zlib.error("the checksum or the size of the content is wrong")
        if came == trailer:
            self._part, self._rest = self._behind, self._rest[len(trailer) :]
            self._barren = b""

    def is_whole(self, *, framed: bool) -> bool:
        """Return True if the body may end here; see `ContentDecoder.is_whole`."""
        if self._part is _Part.BEHIND or (self._part is _Part.HEADER and not self._rest):
            return True
        return framed and (
            self._part is _Part.TRAILER
            or self._barren is not None
            or (self._part is _Part.BLOCKS and self._is_between_blocks())
        )

    def _is_between_blocks(self) -> bool:
        with suppress(zlib.error):
            return self._inflater.copy().decompress(_BLOCK) == _TEXT
        return False

    def _is_garbage(self) -> bool:
        """Return True if the blocks of a later member are invalid before they give content.

        They are decompressed again, byte by byte, since the result must not depend on the reads:
        zlib drops the content of the call that fails.
        """
        blocks = (self._barren or b"") + self._rest
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        with suppress(zlib.error):
            any(inflater.decompress(blocks[at : at + 1]) for at in range(_LONGEST_GARBAGE))
            return False
        return True


def deflate() -> Inflated:
    """Return a decoder for deflate (RFC 9110 8.4.1.2): zlib's format, or bare blocks."""
    return Inflated(_deflate_header, has_members=False)


def gzip() -> Inflated:
    """Return a decoder for gzip, in one member or several (RFC 1952 2.2)."""
    return Inflated(_gzip_header, has_members=True)


def _deflate_header(data: bytes) -> tuple[_Format, int] | None:
    """Return the format and the size of its header; None if the header is incomplete."""
    if len(data) < 2:
        return None
    # RFC 1950 2.2. Bare blocks never begin like that: it would be a stored block with a bit set
    # that compressors leave at zero. A preset dictionary (0x20) is unknown here.
    is_zlib = data[0] & 0x8F == 8 and not data[1] & 0x20 and (data[0] << 8 | data[1]) % 31 == 0
    return (_ZLIB, 2) if is_zlib else (_BARE, 0)


def _gzip_header(data: bytes) -> tuple[_Format, int] | None:
    """Return the format and the size of its header (RFC 1952 2.3); None if it is incomplete."""
    # Two bytes at a time, as in zlib: a single byte after a member is not known to be garbage.
    if len(data) > 1 and data[:2] != b"\x1f\x8b":
        raise zlib.error("the header of gzip does not begin so")
    if len(data) > 3 and (data[2] != 8 or data[3] & 0xE0):
        raise zlib.error("the header of gzip has an unknown method or flag")
    if len(data) < 10:
        return None
    has_crc, has_extra, *names = (data[3] & flag for flag in (2, 4, 8, 16))
    end = 10
    if has_extra:
        end += 2 + int.from_bytes(data[10:12], "little")
    for _ in filter(None, names):
        end = data.find(0, end) + 1 or len(data) + 1
    checked = end
    end += 2 if has_crc else 0
    if len(data) < end:
        return None
    if has_crc and zlib.crc32(data[:checked]) & 0xFFFF != int.from_bytes(
        data[checked:end], "little"
    ):
        raise zlib.error("the header of gzip has a wrong checksum")
    return _GZIP, end
