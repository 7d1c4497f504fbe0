"""The content of a coded body (RFC 9110 8.4), and whether it is whole; the events of a stream."""

from __future__ import annotations

import enum
import functools
import importlib
import re
import struct
import zlib
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import urllib3

if TYPE_CHECKING:
    from collections.abc import Callable

FRAMING_FIELDS = frozenset(
    {"content-length", "transfer-encoding", "connection", "content-encoding", "keep-alive"}
)
# RFC 1951 3.2.4: a stored block, not the last one. Its text comes out of a decoder that stands
# between two blocks, and of no other. The unused bits of its first byte are ones: zeros could end a
# block.
TEXT = b"between 2 blocks"
BLOCK = b"\xf8\x10\x00\xef\xff" + TEXT
# RFC 1952 2.3.1
FTEXT, FHCRC, FEXTRA, FNAME, FCOMMENT = 1, 2, 4, 8, 16


class State(enum.Enum):
    """The completeness of a coded body."""

    WHOLE = "whole"
    FLUSHED = "flushed"  # all that came can be decoded, but the end of the coding is missing
    CUT = "cut"
    BROKEN = "broken"
    UNKNOWN = "unknown"  # the content as far as it goes is known, and not whether that is whole
    NO_IDEA = "no idea"  # not even that


@dataclass(frozen=True)
class Decoded:
    """The content, and its state."""

    content: bytes
    state: State


def decode(body: bytes, codings: list[str]) -> Decoded:
    """Undo the content codings, the last one first."""
    state = State.WHOLE
    if not body:
        return Decoded(b"", state)
    # Which ones urllib3 undoes depends on its version, and on the packages beside it.
    known = [c for c in codings if c in _DECODERS and c in urllib3.HTTPResponse.CONTENT_DECODERS]
    if len(known) < len(codings):
        if len(codings) > 1:
            return Decoded(b"", State.NO_IDEA)
        return Decoded(body, State.WHOLE)  # requests hands out a coding that it cannot decode
    for number, coding in enumerate(reversed(known)):
        decoded = _DECODERS[coding](body)
        if number and decoded.state is not State.WHOLE:
            return Decoded(decoded.content, State.NO_IDEA)
        body, state = decoded.content, decoded.state if not number else state
    return Decoded(body, state)


def _gzip(body: bytes) -> Decoded:
    """RFC 1952: members, one behind the other."""
    content = b""
    rest = body
    while rest:
        member = _member(rest)
        if content or rest is not body:
            # Bytes behind a whole member take nothing away from it, as long as they are no member
            # or have given nothing yet. Only the framing can tell the beginning of a member from
            # garbage.
            if member.state in (State.BROKEN, State.CUT) and not member.content:
                is_garbage = member.state is State.BROKEN
                return Decoded(content, State.WHOLE if is_garbage else State.FLUSHED)
            if member.state is not State.WHOLE:
                return Decoded(content + member.content, State.UNKNOWN)
        content += member.content
        if member.state is not State.WHOLE:
            return Decoded(content, member.state)
        inflater = zlib.decompressobj(wbits=31)
        inflater.decompress(rest)
        rest = inflater.unused_data
    return Decoded(content, State.WHOLE)


def _member(body: bytes) -> Decoded:
    """One member; its content as far as it goes."""
    header = _gzip_header(body)
    content = _as_far_as(body, 31)
    if header is None:
        return Decoded(b"", State.CUT if _is_gzip_so_far(body) else State.BROKEN)
    try:
        inflater = zlib.decompressobj(wbits=31)
        inflater.decompress(body)
    except zlib.error:
        return Decoded(content, State.BROKEN)
    if inflater.eof:
        return Decoded(content, State.WHOLE)
    return Decoded(content, _raw_state(body[header:], _gzip_trailer))


def _gzip_trailer(content: bytes) -> bytes:
    return struct.pack("<II", zlib.crc32(content), len(content))


def _zlib_trailer(content: bytes) -> bytes:
    return struct.pack(">I", zlib.adler32(content))


def _raw_state(body: bytes, trailer: Callable[[bytes], bytes]) -> State:
    inflater = zlib.decompressobj(wbits=-15)
    content = inflater.decompress(body)
    if inflater.eof:
        # The trailer is missing, or a part of it. The part that is there must be right.
        is_right = trailer(content).startswith(inflater.unused_data)
        return State.FLUSHED if is_right else State.BROKEN
    try:
        return State.FLUSHED if inflater.decompress(BLOCK) == TEXT else State.CUT
    except zlib.error:
        return State.CUT


def _as_far_as(body: bytes, wbits: int) -> bytes:
    """Return the content before the first wrong byte."""
    inflater = zlib.decompressobj(wbits=wbits)
    with suppress(zlib.error):
        return inflater.decompress(body)
    inflater = zlib.decompressobj(wbits=wbits)
    content = b""
    for at in range(len(body)):
        try:
            content += inflater.decompress(body[at : at + 1])
        except zlib.error:
            break
        if inflater.eof:
            break
    return content


def _is_gzip_so_far(body: bytes) -> bool:
    if not b"\x1f\x8b".startswith(body[:2]):
        return False
    try:
        zlib.decompressobj(wbits=31).decompress(body)
    except zlib.error:
        return False
    return True


def _gzip_header(body: bytes) -> int | None:
    """Return the size of a member's header; None where it is not whole, or none."""
    if not (len(body) >= 10 and body[:3] == b"\x1f\x8b\x08" and body[3] < 32):
        return None
    flags, at = body[3], 10
    if flags & FEXTRA:
        at += 2 + int.from_bytes(body[at : at + 2], "little")
    for flag in (FNAME, FCOMMENT):
        if flags & flag:
            end = body.find(b"\0", at)
            if end < 0:
                return None
            at = end + 1
    at += 2 if flags & FHCRC else 0
    return at if at <= len(body) else None


def _deflate(body: bytes) -> Decoded:
    """RFC 1950, or the bare RFC 1951 that some servers send."""
    is_zlib = len(body) < 2 or (body[0] & 15 == 8 and int.from_bytes(body[:2], "big") % 31 == 0)
    wbits = 15 if is_zlib else -15
    content = _as_far_as(body, wbits)
    try:
        inflater = zlib.decompressobj(wbits=wbits)
        inflater.decompress(body)
    except zlib.error:
        return Decoded(content, State.UNKNOWN if not content else State.BROKEN)
    if inflater.eof:
        return Decoded(content, State.WHOLE if not inflater.unused_data else State.UNKNOWN)
    if len(body) < 2:
        return Decoded(content, State.CUT)
    return Decoded(content, _raw_state(body[2:] if is_zlib else body, _zlib_trailer))


def _br(body: bytes) -> Decoded:
    """RFC 7932; only a whole body is judged, of others the content that they give is known."""
    decoder: Any = _package("br").Decompressor()
    return _step_by_step(body, decoder.process, decoder.is_finished)


def _zstd(body: bytes) -> Decoded:
    """Decode by RFC 8878, step by step like brotli."""
    decoder: Any = _package("zstd").ZstdDecompressor()
    decoded = _step_by_step(body, decoder.decompress, lambda: decoder.eof)
    try:
        _package("zstd").ZstdDecompressor().decompress(body)
    except Exception:  # noqa: BLE001  # libzstd compares the announced size where all comes at once
        return Decoded(decoded.content, State.UNKNOWN)
    return decoded


def _step_by_step(
    body: bytes, decode_piece: Callable[[bytes], bytes], is_over: Callable[[], bool]
) -> Decoded:
    content = b""
    for at in range(len(body)):
        try:
            content += decode_piece(body[at : at + 1])
        except Exception:  # noqa: BLE001  # each package has errors of its own
            return Decoded(content, State.UNKNOWN)
        if is_over():
            return Decoded(content, State.WHOLE if at + 1 == len(body) else State.UNKNOWN)
    return Decoded(content, State.UNKNOWN)


@functools.cache
def _package(name: str) -> Any:
    modules = {"br": ("brotlicffi", "brotli"), "zstd": ("compression.zstd", "backports.zstd")}
    for each in modules[name]:
        try:
            return importlib.import_module(each)
        except ImportError:
            continue
    return None


_DECODERS: dict[str, Callable[[bytes], Decoded]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
    "br": _br,
    "zstd": _zstd,
}


def encode(content: bytes, coding: str, *, is_flushed: bool) -> bytes:
    """Return a content in a coding; ``is_flushed``: it can be decoded, but has no end."""
    if coding in {"br", "zstd"}:
        package = _package(coding)
        return content if package is None else bytes(package.compress(content))
    wbits = {"gzip": 31, "x-gzip": 31, "deflate": 15, "raw deflate": -15}.get(coding)
    if wbits is None:
        return content
    deflater = zlib.compressobj(wbits=wbits)
    body = deflater.compress(content)
    return body + deflater.flush(zlib.Z_SYNC_FLUSH if is_flushed else zlib.Z_FINISH)


Event: TypeAlias = tuple[str, str, str, int | None]


def events(data: bytes) -> tuple[list[Event], str, int | None]:
    """Return the events, the last id and the retry by the WHATWG's algorithm (HTML 9.2.6).

    A transcript: slow, and easy to compare with the text.
    """
    text = data.decode("utf-8", "replace").removeprefix("\ufeff")
    *lines, _unfinished = re.split("\r\n|\r|\n", text)
    found: list[Event] = []
    last_id = id_buffer = data_buffer = type_buffer = ""
    retry: int | None = None
    block_retry: int | None = None
    for line in lines:
        if not line:
            last_id = id_buffer
            if data_buffer:
                event = (type_buffer or "message", data_buffer.removesuffix("\n"))
                found.append((*event, last_id, block_retry))
            data_buffer = type_buffer = ""
            block_retry = None
            continue
        field, colon, value = line.partition(":")
        value = value.removeprefix(" ")
        if colon and not field:
            continue
        if field == "event":
            type_buffer = value
        elif field == "data":
            data_buffer += value + "\n"
        elif field == "id" and "\0" not in value:
            id_buffer = value
        elif field == "retry" and re.fullmatch("[0-9]+", value):
            retry = block_retry = int(value)
    return found, last_id, retry


def flushed_events(data: bytes) -> list[Event]:
    """Return the events, and that of an unfinished block at a clean end, which readers flush."""
    return events(data + (b"" if data.endswith(b"\r") else b"\n") + b"\n\n")[0]
