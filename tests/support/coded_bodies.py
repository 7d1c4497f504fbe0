"""Bodies as a server sends them: framed, coded, in pieces, and every way to read one."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import sys
import zlib
from typing import TYPE_CHECKING, Any

import pytest
import urllib3

from resilient_requests import iter_bytes, iter_events
from resilient_requests.testing import Pause, Reply, Send, stream

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Iterator

    import requests
    from clients import Client

    from resilient_requests.testing import FaultServer

FRAMINGS: tuple[Any, ...] = ("chunked", "close", "length")
EVENT_STREAM = "text/event-stream"


def _imported(*names: str) -> Any:
    for name in names:
        with contextlib.suppress(ImportError):
            return importlib.import_module(name)
    return None


# The packages that urllib3 looks for, in its order.
BROTLI: Any = _imported("brotlicffi", "brotli")
ZSTD: Any = (
    _imported("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd", "zstandard")
    if "zstd" in urllib3.HTTPResponse.CONTENT_DECODERS
    else None
)
CODINGS = ("identity", "gzip", "deflate", *(("br",) if BROTLI is not None else ()))
ALL_CODINGS = (*CODINGS, *(("zstd",) if ZSTD is not None else ()))
CHAINS = tuple(
    names
    for names in ("gzip, gzip", "raw deflate, gzip", "gzip, br", "br, gzip", "zstd, gzip, br")
    if set(names.split(", ")) <= {*ALL_CODINGS, "raw deflate"}
)
"""Several codings, in the order in which they are applied."""


def content_encoding(coding: str) -> str:
    """The header for a coding, or a chain, of these tests."""
    return coding.replace("raw ", "")


def packer(coding: str, quality: int = 1) -> tuple[Callable[[bytes], bytes], Callable[[], bytes]]:
    """Return a function that packs a piece with a flush, and one that ends the body.

    ``coding`` may be a chain. ``quality`` is brotli's.
    """
    inner, _, outer = coding.rpartition(", ")
    if inner:
        inner_pack, inner_end = packer(inner, quality)
        pack, end = packer(outer, quality)
        return lambda piece: pack(inner_pack(piece)), lambda: pack(inner_end()) + end()
    if coding == "identity":
        return lambda piece: piece, bytes
    if coding == "br":
        brotli = BROTLI.Compressor(quality=quality)
        return lambda piece: brotli.process(piece) + brotli.flush(), brotli.finish
    if coding == "zstd":
        zstd = ZSTD.ZstdCompressor()
        if hasattr(zstd, "compressobj"):  # of `zstandard`
            zstd = zstd.compressobj()
            block = ZSTD.COMPRESSOBJ_FLUSH_BLOCK
            return lambda piece: zstd.compress(piece) + zstd.flush(block), zstd.flush
        return lambda piece: zstd.compress(piece, zstd.FLUSH_BLOCK), zstd.flush
    deflate = zlib.compressobj(wbits={"gzip": 31, "deflate": 15, "raw deflate": -15}[coding])
    return lambda piece: deflate.compress(piece) + deflate.flush(zlib.Z_SYNC_FLUSH), deflate.flush


def packed(pieces: Iterable[bytes], coding: str) -> bytes:
    """A whole body."""
    pack, end = packer(coding)
    return b"".join([*map(pack, pieces), end()])


def bomb(coding: str, unit: bytes, times: int) -> bytes:
    """A whole body of that many equal units, made in less time than it takes to decode."""
    inner, _, outer = coding.rpartition(", ")
    if inner:
        small = bomb(inner, unit, times)
        return packed([small[at : at + 65536] for at in range(0, len(small), 65536)], outer)
    if coding == "br":
        brotli = BROTLI.Compressor(quality=1)
        return b"".join([*(brotli.process(unit) for _ in range(times)), brotli.finish()])
    if coding == "zstd":
        return packed([unit], "zstd") * times
    deflate = zlib.compressobj(wbits={"gzip": 31, "deflate": 15, "raw deflate": -15}[coding])
    # A full flush forgets the bytes before: the second unit and all later ones are the same.
    first, more = (deflate.compress(unit) + deflate.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    # There is no checksum: in a complete framing such a body is whole.
    return first + more * (times - 1) + b"\x03\x00"


def coded_stream(
    items: Iterable[bytes | float | threading.Event],
    *,
    coding: str = "identity",
    ending: Any = None,
    headers: dict[str, str] | None = None,
    **options: Any,
) -> Reply:
    """A `stream` with pieces that are packed one by one.

    The coding's end is sent unless there is another ending.
    """
    pack, end = packer(coding)
    packed_items = [pack(item) if isinstance(item, bytes) else item for item in items]
    if ending is None:
        packed_items.append(end())
    fields = dict(headers or {})
    if coding != "identity":
        fields["Content-Encoding"] = content_encoding(coding)
    return stream(packed_items, ending=ending, headers=fields, **options)


def _of_events(response: requests.Response) -> Iterator[bytes]:
    return (f"data: {event.data}\n\n".encode() for event in iter_events(response))


def _of_lines(response: requests.Response) -> Iterator[bytes]:
    return (line + b"\n" for line in response.iter_lines())


READERS: dict[str, Callable[[requests.Response], Iterator[bytes]]] = {
    "iter_events": _of_events,
    "iter_bytes": iter_bytes,
    "iter_lines": _of_lines,
    "iter_content(None)": lambda response: response.iter_content(None),
    "iter_content(7)": lambda response: response.iter_content(7),
}
"""Ways to read an event stream; each gives back the bytes that were sent."""


def events(*datas: object) -> list[bytes]:
    """Server-sent events as bytes."""
    return [f"data: {data}\n\n".encode() for data in datas]


def verbatim(*items: bytes | threading.Event) -> Reply:
    """A reply that is sent as it is, head and framing included; an event is awaited."""
    return Reply(
        tuple(Send(body=item) if isinstance(item, bytes) else Pause(item) for item in items)
    )


def until_error(kind: type[BaseException], pieces: Iterable[Any]) -> tuple[list[Any], Any]:
    """Return the items before an error of that kind, and the error."""
    seen: list[Any] = []
    try:
        seen.extend(pieces)
    except kind as error:
        return seen, error
    pytest.fail(f"no {kind.__name__}, but an end after {seen}")


def opened(
    client: Client, server: FaultServer, reply: Reply, *, idle: float | None = None, **options: Any
) -> requests.Response:
    """The streamed response to one GET that is answered so; ``idle`` is the adapter's limit."""
    server.script(reply)
    if idle is not None:
        client.adapter._timeouts = dataclasses.replace(client.adapter._timeouts, idle=idle)
    return client.get(stream=True, **options)
