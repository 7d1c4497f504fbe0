"""Content codings undone as the bytes arrive, and whether a coded body is whole; no I/O."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

from urllib3.response import GzipDecoderState, HTTPResponse

if TYPE_CHECKING:
    import urllib3

__all__ = ["ContentDecoder"]

# So much is decoded at a time: a body of zeros grows a thousandfold.
_PIECE = 4096
# A stored block (RFC 1951 3.2.4), whose text comes out of a decoder that stands between two blocks, and of no other.
# The unused bits of its first byte are ones, since zeros would end a block with fixed codes.
_TEXT = b"nothing is held between 2 blocks"
_BLOCK = b"\xf8\x20\x00\xdf\xff" + _TEXT
# The last meta-block of brotli, an empty one (RFC 7932 9.2): it ends a decoder that stands between two, and no other.
_LAST = b"\x03"


class ContentDecoder:
    """Undoes the Content-Encoding of one response with urllib3's own decoders; one thread.

    Raises urllib3's DecodeError for bytes that are no such coding.
    """

    def __init__(self, raw: urllib3.HTTPResponse) -> None:
        self._coding: Any = raw
        self._coding._init_decoder()
        self._decoder = self._coding._decoder
        self._decoders = [] if self._decoder is None else _each(self._decoder)
        # Both packages for brotli may keep a part of what a piece gives, until they are asked once more.
        self.is_coded = self._decoder is not None
        self._withholds = self._decoder is not None and any(map(_is_brotli, self._decoders))
        self._packed = b""
        self._is_fed = False
        self._is_complete: bool | None = None
        self.has_more = False  # whether there is something to decode before the next read

    def decode(self, data: bytes) -> bytes:
        """Return what the next piece of ``data`` and of all before it gives; call again with b"" for more."""
        if self._decoder is None:
            return data
        self._packed += data
        piece, self._packed = self._packed[:_PIECE], self._packed[_PIECE:]
        self._is_fed |= bool(piece)
        content = bytes(self._coding._decode(piece, decode_content=True, flush_decoder=False))
        self.has_more = bool(self._packed) or (self._withholds and bool(content))
        return content

    def finish(self) -> bytes:
        """Return what is left at the end of the body."""
        return bytes(self._decoder.flush()) if self._decoder is not None and self._is_fed else b""

    def is_whole(self, *, framed: bool) -> bool:
        """Return whether the coded body may end here; nothing can be decoded afterwards.

        ``framed``: the framing vouches for the end; then a body that was only flushed, without its trailer, is whole.
        """
        if self.has_more:
            return False
        if self._is_complete is None:  # brotli can be asked once
            self._is_complete = not self._is_fed or all(
                _is_whole(decoder, framed) for decoder in self._decoders
            )
        return self._is_complete


def _each(decoder: Any) -> list[Any]:
    decoders: list[Any] = getattr(decoder, "_decoders", [decoder])  # of several codings
    return decoders


def _is_brotli(decoder: Any) -> bool:
    return hasattr(getattr(decoder, "_obj", None), "is_finished")


def _is_whole(decoder: Any, framed: bool) -> bool:
    inflater = getattr(decoder, "_obj", None)
    # Like requests, urllib3 lets garbage pass behind a whole member of gzip.
    if inflater is None or getattr(decoder, "_state", None) == GzipDecoderState.SWALLOW_DATA:
        return True
    if _is_brotli(decoder):
        return inflater.is_finished() or (framed and _is_between_meta_blocks(decoder, inflater))
    if not hasattr(inflater, "copy"):  # zstd
        return bool(inflater.eof)
    return inflater.eof or (framed and _is_between_blocks(inflater))


def _is_between_meta_blocks(decoder: Any, inflater: Any) -> bool:
    """Return whether a brotli decompressor holds no part of a meta-block, by ending it: it cannot be copied."""
    try:
        return not decoder.decompress(_LAST) and bool(inflater.is_finished())
    except HTTPResponse.DECODER_ERROR_CLASSES:
        return False


def _is_between_blocks(inflater: Any) -> bool:
    """Return whether a zlib decompressor holds no part of a block: zlib itself does not tell."""
    try:
        return bool(inflater.copy().decompress(_BLOCK) == _TEXT)
    except zlib.error:
        return False
