"""A coded body that was cut does not pass for a whole one, and costs no more memory than it has to."""

from __future__ import annotations

import gzip
import io
import random
import tracemalloc
import zlib
from typing import TYPE_CHECKING, Any

import pytest
import requests
import urllib3
from clients import Client
from coded_bodies import (
    ALL_CODINGS,
    BROTLI,
    CODINGS,
    FRAMINGS,
    ZSTD,
    coded_stream,
    opened,
    packed,
    packer,
    until_error,
)

from resilient_requests import StreamBroken, StreamProtocolError, iter_bytes
from resilient_requests.stream._coding import ContentDecoder
from resilient_requests.testing import FaultServer, respond

if TYPE_CHECKING:
    from collections.abc import Iterator

INFLATED = ("gzip", "deflate", "raw deflate")
RANDOM = random.Random(7)
TEXTS = {
    "short": [b"a", b"b"],
    "repetitive": [b"data: hello world\n\n"] * 5,
    "incompressible": [RANDOM.randbytes(90), RANDOM.randbytes(90)],
    "mixed": [b"data: " + RANDOM.randbytes(20).hex().encode() + b"\n\n" for _ in range(3)],
    "empty pieces": [b"", b"x" * 300, b""],
}
LEVELS = (0, 1, 6, 9)  # 0: stored blocks, 1: fixed codes, 6 and 9: dynamic ones


@pytest.fixture
def client(fault_server: FaultServer) -> Iterator[Client]:
    """Ours."""
    with Client(fault_server, policy={"max_retries": 0}) as client:
        yield client


def decoder_of(coding: str) -> ContentDecoder:
    """The decoder for a response with that Content-Encoding."""
    headers = {} if coding == "identity" else {"Content-Encoding": coding.rpartition(" ")[2]}
    return ContentDecoder(
        urllib3.HTTPResponse(io.BytesIO(), headers=headers, preload_content=False)
    )


def decoded(coding: str, pieces: list[bytes]) -> tuple[bytes, ContentDecoder]:
    """What the pieces give, and the decoder at their end."""
    decoder = decoder_of(coding)
    content = b""
    for piece in pieces:
        content += decoder.decode(piece)
        while decoder.has_more:
            content += decoder.decode(b"")
    return content, decoder


def flushed(texts: list[bytes], wbits: int, level: int) -> tuple[bytes, set[int]]:
    """A body that is flushed behind each text, and the lengths at which it is whole in a complete framing."""
    deflate = zlib.compressobj(level, zlib.DEFLATED, wbits)
    body = b""
    boundaries = {0}  # an empty body, whatever its Content-Encoding
    for text in texts:
        body += deflate.compress(text) + deflate.flush(zlib.Z_SYNC_FLUSH)
        boundaries.add(len(body))
    body += deflate.flush()
    return body, boundaries | {len(body)}


# -- cut at every byte ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("texts", TEXTS.values(), ids=list(TEXTS))
@pytest.mark.parametrize("coding", INFLATED)
def test_a_framed_body_is_whole_between_blocks_only(
    coding: str, texts: list[bytes], level: int
) -> None:
    """Where the framing vouches for the end, a body that was only flushed is whole; half a block never is."""
    wbits, header = {"gzip": (31, 10), "deflate": (15, 2), "raw deflate": (-15, 0)}[coding]
    body, boundaries = flushed(texts, wbits, level)
    whole = {
        size
        for size in range(len(body) + 1)
        if decoded(coding, [body[:size]])[1].is_whole(framed=True)
    }

    assert boundaries <= whole
    # A flush is an empty stored block, behind another that is whole without it; so is a mere header.
    surplus = whole - boundaries - {header}
    assert surplus <= {boundary - 5 for boundary in boundaries}
    ends = {b"".join(texts[:count]) for count in range(len(texts) + 1)}
    assert {decoded(coding, [body[:size]])[0] for size in whole} <= ends


@pytest.mark.parametrize("texts", TEXTS.values(), ids=list(TEXTS))
@pytest.mark.parametrize("coding", INFLATED)
def test_a_body_without_framing_is_whole_at_its_end_only(coding: str, texts: list[bytes]) -> None:
    """Nothing else vouches for it."""
    body = packed(texts, coding)
    whole = [
        size
        for size in range(len(body) + 1)
        if decoded(coding, [body[:size]])[1].is_whole(framed=False)
    ]

    assert whole == [0, len(body)]


@pytest.mark.skipif(BROTLI is None, reason="needs brotli")
@pytest.mark.parametrize("quality", [0, 1, 5, 11])
@pytest.mark.parametrize("texts", TEXTS.values(), ids=list(TEXTS))
def test_brotli_tells_where_it_was_flushed(texts: list[bytes], quality: int) -> None:
    """As gzip: in a complete framing a body that was only flushed is whole; half a meta-block never is."""
    pack, end = packer("br", quality)
    body, boundaries = b"", {0}
    for text in texts:
        body += pack(text)
        boundaries.add(len(body))
    body += end()
    sizes = range(len(body) + 1)

    assert [size for size in sizes if decoded("br", [body[:size]])[1].is_whole(framed=False)] == [
        0,
        len(body),
    ]
    whole = {size for size in sizes if decoded("br", [body[:size]])[1].is_whole(framed=True)}
    assert whole == boundaries | {len(body)}


@pytest.mark.skipif(BROTLI is None, reason="needs brotli")
def test_a_cut_brotli_body_stays_cut() -> None:
    """The question ends the decoder: the answer to a second one must not be that it is at its end."""
    body = packed([RANDOM.randbytes(50)], "br")
    for size in range(2, len(body) - 1):
        decoder = decoded("br", [body[:size]])[1]
        assert [decoder.is_whole(framed=True) for _ in range(4)] == [False] * 4


@pytest.mark.skipif(ZSTD is None, reason="needs zstd")
@pytest.mark.parametrize("framed", [True, False])
@pytest.mark.parametrize("texts", TEXTS.values(), ids=list(TEXTS))
def test_zstandard_is_whole_at_its_end_only(texts: list[bytes], framed: bool) -> None:
    """As for urllib3 itself, whatever vouches for the end: a frame holds its length and its checksum."""
    body = packed(texts, "zstd")
    whole = [
        size
        for size in range(len(body) + 1)
        if decoded("zstd", [body[:size]])[1].is_whole(framed=framed)
    ]

    assert whole == [0, len(body)]


@pytest.mark.parametrize("size", [10, 300, 3000, 300_000])
@pytest.mark.parametrize("coding", ALL_CODINGS)
def test_all_that_has_arrived_is_decoded(coding: str, size: int) -> None:
    """The packages for brotli keep what is more than some multiple of a piece until the next one comes."""
    pack, _ = packer(coding)
    decoder = decoder_of(coding)
    for number in range(3):
        text = bytes([65 + number]) * size
        content = decoder.decode(pack(text))
        while decoder.has_more:
            content += decoder.decode(b"")
        assert content == text


@pytest.mark.parametrize("size", [1, 2, 3, 50, 4095, 4096, 4097, 100_000])
@pytest.mark.parametrize("coding", [*ALL_CODINGS, "raw deflate"])
def test_the_cuts_between_reads_change_nothing(coding: str, size: int) -> None:
    """The decoder works in pieces of its own; nothing is left in it at the end."""
    texts = [RANDOM.randbytes(300).hex().encode() * 3 for _ in range(10)]
    body = packed(texts, coding)
    content, decoder = decoded(coding, [body[at : at + size] for at in range(0, len(body), size)])

    assert content + decoder.finish() == b"".join(texts)
    assert decoder.is_whole(framed=False)


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("coding", ALL_CODINGS[1:])
def test_a_cut_body_is_broken_on_the_wire(
    client: Client, fault_server: FaultServer, framing: Any, coding: str
) -> None:
    """What could be decoded is delivered first; read as a whole, it is no success."""
    body = packed([b"data: first\n\n", RANDOM.randbytes(400)], coding)
    cut = respond(body[:-100], framing=framing, headers={"Content-Encoding": coding})
    response = opened(client, fault_server, cut)
    pieces, _ = until_error(StreamBroken, iter_bytes(response))
    assert b"".join(pieces).startswith(b"data: first\n\n")

    fault_server.script(cut)
    with pytest.raises(StreamBroken):
        client.get()


@pytest.mark.parametrize("framing", ["chunked", "length"])
@pytest.mark.parametrize("coding", CODINGS[1:])
def test_a_flushed_body_is_whole_on_the_wire(
    client: Client, fault_server: FaultServer, framing: Any, coding: str
) -> None:
    """Servers that stream leave out the trailer."""
    pack, _ = packer(coding)
    fault_server.script(
        respond(pack(b"data: only\n\n"), framing=framing, headers={"Content-Encoding": coding})
    )

    assert client.get().content == b"data: only\n\n"


# -- odd bodies -----------------------------------------------------------------------------------------------------


def test_members_follow_each_other(client: Client, fault_server: FaultServer) -> None:
    """RFC 1952 2.2: a file of several members is their contents, and the last one must be whole as well."""
    members = gzip.compress(b"one") + gzip.compress(b"two")
    fault_server.script(respond(members, headers={"Content-Encoding": "gzip"}))
    assert client.get().content == b"onetwo"

    middle = len(members) // 2
    for framed in (True, False):
        whole = [
            n
            for n in range(len(members) + 1)
            if decoded("gzip", [members[:n]])[1].is_whole(framed=framed)
        ]
        assert {0, middle, len(members)} <= set(whole)
        assert not set(whole) & {
            *range(1, 10),
            *range(middle - 8, middle),
            *range(middle + 1, middle + 10),
        }
        assert not set(whole) & set(range(len(members) - 8, len(members)))


@pytest.mark.parametrize("garbage", [b"\0" * 20, b"garbage behind it", b"\r\n", b"\0\0"])
@pytest.mark.parametrize("framing", FRAMINGS)
def test_garbage_behind_a_member_is_ignored(
    client: Client, fault_server: FaultServer, framing: Any, garbage: bytes
) -> None:
    """As by requests and other clients: padding was seen."""
    body = gzip.compress(b"content") + garbage
    fault_server.script(respond(body, framing=framing, headers={"Content-Encoding": "gzip"}))

    assert client.get().content == b"content"


@pytest.mark.parametrize("coding", ["gzip, gzip", "deflate, gzip"])
def test_several_codings_are_undone(client: Client, fault_server: FaultServer, coding: str) -> None:
    """And each of them must have come to its end."""
    inner, outer = coding.split(", ")
    body = packed([packed([b"content" * 20], inner)], outer)
    fault_server.script(respond(body, framing="close", headers={"Content-Encoding": coding}))
    assert client.get().content == b"content" * 20

    fault_server.script(respond(body[:-4], framing="close", headers={"Content-Encoding": coding}))
    with pytest.raises(StreamBroken):
        client.get()


@pytest.mark.parametrize("coding", ALL_CODINGS[1:])
@pytest.mark.parametrize("framing", FRAMINGS)
def test_an_empty_body_needs_no_coding(
    client: Client, fault_server: FaultServer, framing: Any, coding: str
) -> None:
    """Servers announce a coding for everything."""
    fault_server.script(respond(b"", framing=framing, headers={"Content-Encoding": coding}))
    assert client.get().content == b""

    fault_server.script(coded_stream([], framing=framing, coding=coding))
    assert list(iter_bytes(client.get(stream=True))) == []


@pytest.mark.parametrize("coding", ["identity", "", "x-unknown", "utf-8"])
def test_an_unknown_coding_is_passed_on(
    client: Client, fault_server: FaultServer, coding: str
) -> None:
    """As by requests: who asked for it may know what to do."""
    fault_server.script(respond(b"as it is", headers={"Content-Encoding": coding}))

    assert client.get().content == b"as it is"


@pytest.mark.parametrize("coding", ALL_CODINGS[1:])
def test_what_is_no_coded_body_is_refused(
    client: Client, fault_server: FaultServer, coding: str
) -> None:
    """Streamed it is the peer's lie; read as a whole it is what requests raises."""
    for body in (
        b"<html>not packed at all</html>",
        b"\x1f\x8b\x08" + b"\xff" * 30,
        b"\x78\x9c" + b"\xff" * 30,
    ):
        reply = respond(body, headers={"Content-Encoding": coding})
        with pytest.raises((StreamProtocolError, StreamBroken)):
            list(iter_bytes(opened(client, fault_server, reply)))
        fault_server.script(reply)
        with pytest.raises((requests.exceptions.ContentDecodingError, StreamBroken)):
            client.get()


# -- memory ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("coding", ALL_CODINGS[1:])
def test_a_bomb_goes_off_slowly(client: Client, fault_server: FaultServer, coding: str) -> None:
    """A body of zeros grows a thousandfold: who stops reading has not paid for it, and no read is without bound."""
    body = packed([bytes(1 << 20)] * 20, coding)
    response = opened(client, fault_server, respond(body, headers={"Content-Encoding": coding}))
    largest = total = 0
    tracemalloc.start()
    try:
        for piece in iter_bytes(response):
            assert isinstance(piece, bytes)
            largest, total = max(largest, len(piece)), total + len(piece)
            del piece
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert total == 20 << 20
    if coding not in ("br", "zstd"):  # whose ratio has no bound
        assert largest <= 5 << 20
        assert peak <= 16 << 20
