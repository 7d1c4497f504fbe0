"""Content codings undone as the bytes arrive, and whether a coded body is whole; no I/O."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

from urllib3.response import GzipDecoderState

if TYPE_CHECKING:
    import urllib3

__all__ = ["ContentDecoder"]

# So much is decoded at a time: a body of zeros grows a thousandfold.
_PIECE = 4096
# A stored block (RFC 1951 3.2.4), whose text comes out of a decoder that stands between two blocks, and of no other.
# The unused bits of its first byte are ones, since zeros would end a block with fixed codes.
_TEXT = b"nothing is held between 2 blocks"
_BLOCK = b"\xf8\x20\x00\xdf\xff" + _TEXT


class ContentDecoder:
    """Undoes the Content-Encoding of one response with urllib3's own decoders; one thread.

    Raises urllib3's DecodeError for bytes that are no such coding.
    """

    def __init__(self, raw: urllib3.HTTPResponse) -> None:
        self._coding: Any = raw
        self._coding._init_decoder()
        self._decoder = self._coding._decoder
        self._packed = b""
        self._is_fed = False

    @property
    def has_more(self) -> bool:
        """Whether there are bytes to decode before the next read."""
        return bool(self._packed)

    def decode(self, data: bytes) -> bytes:
        """Return what the next piece of ``data`` and of all before it gives; call again with b"" for more."""
        if self._decoder is None:
            return data
        self._packed += data
        piece, self._packed = self._packed[:_PIECE], self._packed[_PIECE:]
        self._is_fed |= bool(piece)
        return bytes(self._coding._decode(piece, decode_content=True, flush_decoder=False))

    def finish(self) -> bytes:
        """Return what is left at the end of the body."""
        return bytes(self._decoder.flush()) if self._decoder is not None and self._is_fed else b""

    def is_whole(self, *, framed: bool) -> bool:
        """Return whether the coded body may end here.

        ``framed``: the framing vouches for the end; then a body that was only flushed, without its trailer, is whole.
        """
        decoders = getattr(self._decoder, "_decoders", [self._decoder])  # of several codings
        return not self._packed and (not self._is_fed or all(_is_whole(decoder, framed) for decoder in decoders))


def _is_whole(decoder: Any, framed: bool) -> bool:
    inflater = getattr(decoder, "_obj", None)
    # Like requests, urllib3 lets garbage pass behind a whole member of gzip.
    if inflater is None or getattr(decoder, "_state", None) == GzipDecoderState.SWALLOW_DATA:
        return True
    if hasattr(inflater, "is_finished"):  # brotli
        return framed or bool(inflater.is_finished())
    if not hasattr(inflater, "copy"):  # zstd
        return bool(inflater.eof)
    return inflater.eof or (framed and _is_between_blocks(inflater))


def _is_between_blocks(inflater: Any) -> bool:
    """Return whether a zlib decompressor holds no part of a block: zlib itself does not tell."""
    try:
        return bool(inflater.copy().decompress(_BLOCK) == _TEXT)
    except zlib.error:
        return False
