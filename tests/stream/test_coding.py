"""A coded body has the same content as in requests, and a cut one does not pass for whole."""

from __future__ import annotations

import gzip
import io
import itertools
import random
import struct
import zlib
from typing import TYPE_CHECKING, Any

import pytest
import requests
import urllib3
from clients import Client
from coded_bodies import (
    ALL_CODINGS,
    BROTLI,
    CHAINS,
    CODINGS,
    FRAMINGS,
    ZSTD,
    coded_stream,
    content_encoding,
    opened,
    packed,
    packer,
    until_error,
)
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from resilient_requests import StreamBroken, StreamProtocolError, iter_bytes
from resilient_requests.stream import _inflate
from resilient_requests.stream._coding import ContentDecoder
from resilient_requests.testing import FaultServer, respond

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# Of plain requests, where the package for brotli is an old one.
pytestmark = pytest.mark.filterwarnings("ignore:Brotli >= 1.2.0 is required")

INFLATED = ("gzip", "deflate", "raw deflate")
EVERY_CODING = (*ALL_CODINGS[1:], "raw deflate", *CHAINS)
RANDOM = random.Random(7)
TEXTS = {
    "short": [b"a", b"b"],
    "repetitive": [b"data: hello world\n\n"] * 5,
    "incompressible": [RANDOM.randbytes(90), RANDOM.randbytes(90)],
    "mixed": [b"data: " + RANDOM.randbytes(20).hex().encode() + b"\n\n" for _ in range(3)],
    "empty pieces": [b"", b"x" * 300, b""],
}
LEVELS = (0, 1, 6, 9)  # 0: stored blocks, 1: fixed codes, 6 and 9: dynamic ones
ONE, TWO = (gzip.compress(text, mtime=0) for text in (b"one", b"two"))
ZLIB = zlib.compress(b"one")
HEADER = 10  # the bytes of a header of gzip


@pytest.fixture
def client(fault_server: FaultServer) -> Iterator[Client]:
    """Ours."""
    with Client(fault_server, policy={"max_retries": 0}) as client:
        yield client


def response_of(header: str, body: bytes = b"") -> urllib3.HTTPResponse:
    """A response of urllib3 with that Content-Encoding, which was not read."""
    headers = {} if header == "identity" else {"Content-Encoding": header}
    return urllib3.HTTPResponse(io.BytesIO(body), headers=headers, preload_content=False)


def decoder_of(coding: str) -> ContentDecoder:
    """The decoder for a response in that coding."""
    return ContentDecoder(response_of(content_encoding(coding)))


def content_of(decoder: ContentDecoder, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the content of the pieces, a piece at a time."""
    for piece in pieces:
        yield decoder.decode(piece)
        while decoder.has_more:
            yield decoder.decode(b"")


def decoded(coding: str, pieces: Iterable[bytes]) -> tuple[bytes, ContentDecoder]:
    """Return the content of the pieces, and the decoder at their end."""
    decoder = decoder_of(coding)
    return b"".join(content_of(decoder, pieces)), decoder


def cut(body: bytes, size: int) -> list[bytes]:
    """The body in pieces of that size."""
    return [body[at : at + size] for at in range(0, len(body), size)]


def whole_sizes(coding: str, body: bytes, *, framed: bool) -> set[int]:
    """The lengths at which the beginning of a body is whole."""
    return {
        size
        for size in range(len(body) + 1)
        if decoded(coding, [body[:size]])[1].is_whole(framed=framed)
    }


def flushed(texts: list[bytes], wbits: int, level: int) -> tuple[bytes, set[int]]:
    """A body that is flushed behind each text, and the lengths at which it is then."""
    deflate = zlib.compressobj(level, zlib.DEFLATED, wbits)
    body = b""
    boundaries = {0}  # an empty body is whole in any coding
    for text in texts:
        body += deflate.compress(text) + deflate.flush(zlib.Z_SYNC_FLUSH)
        boundaries.add(len(body))
    body += deflate.flush()
    return body, boundaries


# -- cut at every byte ---------------------------------------------------------------------------


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("texts", TEXTS.values(), ids=list(TEXTS))
@pytest.mark.parametrize("coding", INFLATED)
def test_a_framed_body_is_whole_between_blocks_and_behind_them(
    coding: str, texts: list[bytes], level: int
) -> None:
    """Framing vouches for an end behind any block, but not for one within a block."""
    wbits, header, trailer = {
        "gzip": (31, 10, 8),
        "deflate": (15, 2, 4),
        "raw deflate": (-15, 0, 0),
    }[coding]
    body, boundaries = flushed(texts, wbits, level)
    whole = whole_sizes(coding, body, framed=True)

    ends = set(range(len(body) - trailer, len(body) + 1))
    assert boundaries | ends <= whole
    # A flush is an empty stored block, so the content before it is whole, too. A mere header is
    # whole as well.
    surplus = whole - boundaries - ends - {header}
    assert surplus <= {boundary - 5 for boundary in boundaries}
    contents = {b"".join(texts[:count]) for count in range(len(texts) + 1)}
    assert {decoded(coding, [body[:size]])[0] for size in whole} <= contents


@pytest.mark.parametrize("texts", TEXTS.values(), ids=list(TEXTS))
@pytest.mark.parametrize("coding", EVERY_CODING)
def test_a_body_without_framing_is_whole_at_its_end_only(coding: str, texts: list[bytes]) -> None:
    """Nothing else vouches for it."""
    body = packed(texts, coding)

    assert whole_sizes(coding, body, framed=False) == {0, len(body)}


@pytest.mark.skipif(BROTLI is None, reason="needs brotli")
@pytest.mark.parametrize("quality", [0, 1, 5, 11])
@pytest.mark.parametrize("texts", TEXTS.values(), ids=list(TEXTS))
def test_brotli_tells_where_it_was_flushed(texts: list[bytes], quality: int) -> None:
    """A framed body that was only flushed is whole, as in gzip; half a meta-block never is."""
    pack, end = packer("br", quality)
    body, boundaries = b"", {0}
    for text in texts:
        body += pack(text)
        boundaries.add(len(body))
    body += end()

    assert whole_sizes("br", body, framed=True) == boundaries | {len(body)}
    decoder = decoded("br", [body[: max(boundaries)]])[1]
    assert [decoder.is_whole(framed=framed) for framed in (False, True, True, False)] == [
        *(False, True, True, False)
    ]


@pytest.mark.skipif(BROTLI is None, reason="needs brotli")
def test_a_cut_brotli_body_stays_cut() -> None:
    """The question ends the decoder: a second one must not find that it is at its end."""
    body = packed([RANDOM.randbytes(50)], "br")
    cuts = [body[:size] for size in range(2, len(body) - 1)]
    # The byte that is asked with is the very one that is missing here.
    cuts.append(b"\x1b\x0b\x00\x00\xa4A\xc6\xc4\xca\x86@\x01\x18\xf1\xdb\x03"[:-1])
    for begun in cuts:
        decoder = decoded("br", [begun])[1]
        assert not decoder.is_whole(framed=False)
        assert [decoder.is_whole(framed=True) for _ in range(4)] == [False] * 4


@pytest.mark.skipif(ZSTD is None, reason="needs zstd")
@pytest.mark.parametrize("texts", TEXTS.values(), ids=list(TEXTS))
def test_zstandard_is_whole_at_its_end_only(texts: list[bytes]) -> None:
    """A frame knows its last block, so the framing does not matter; urllib3 has the same rule."""
    body = packed(texts, "zstd")

    assert whole_sizes("zstd", body, framed=True) == {0, len(body)}


@pytest.mark.parametrize("size", [10, 300, 3000, 300_000])
@pytest.mark.parametrize("coding", [*ALL_CODINGS, *CHAINS])
def test_all_that_has_arrived_is_decoded(coding: str, size: int) -> None:
    """The packages for brotli keep some of it until they are asked once more."""
    pack, _ = packer(coding)
    decoder = decoder_of(coding)
    for number in range(3):
        text = bytes([65 + number]) * size
        assert b"".join(content_of(decoder, [pack(text)])) == text


@pytest.mark.parametrize("size", [1, 2, 3, 50, 4095, 4096, 4097, 100_000])
@pytest.mark.parametrize("coding", ["identity", *EVERY_CODING])
def test_the_cuts_between_reads_change_nothing(coding: str, size: int) -> None:
    """The decoder works in pieces of its own; nothing is left in it at the end."""
    texts = [RANDOM.randbytes(300).hex().encode() * 3 for _ in range(10)]
    content, decoder = decoded(coding, cut(packed(texts, coding), size))

    assert content == b"".join(texts)
    assert decoder.is_whole(framed=False)


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("coding", ALL_CODINGS[1:])
def test_a_cut_body_is_broken_on_the_wire(
    client: Client, fault_server: FaultServer, framing: Any, coding: str
) -> None:
    """A stream delivers the decoded part first; a buffered read is no success."""
    body = packed([b"data: first\n\n", RANDOM.randbytes(400)], coding)
    reply = respond(body[:-100], framing=framing, headers={"Content-Encoding": coding})
    response = opened(client, fault_server, reply)
    pieces, _ = until_error(StreamBroken, iter_bytes(response))
    assert b"".join(pieces).startswith(b"data: first\n\n")

    fault_server.script(reply)
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


# -- whole, though something is missing or behind ------------------------------------------------


def in_both(
    client: Client, server: FaultServer, header: str, body: bytes, framing: Any = "length"
) -> tuple[bytes | str, bytes | str]:
    """Return the content, or the name of the error, in plain requests and in ours."""
    found: list[bytes | str] = []
    with requests.Session() as plain:
        for session in (plain, client.session):
            server.script(respond(body, framing=framing, headers={"Content-Encoding": header}))
            try:
                found.append(session.get(server.url).content)
            except requests.RequestException as error:
                found.append(type(error).__name__)
    return found[0], found[1]


LENIENT = {
    "the first byte of a member behind": ("gzip", ONE + TWO[:1]),
    "half a header behind": ("gzip", ONE + TWO[: HEADER // 2]),
    "a header behind": ("gzip", ONE + TWO[:HEADER]),
    "a header and a part of a block behind": ("gzip", ONE + TWO[: HEADER + 1]),
    "gzip without its trailer": ("gzip", ONE[:-8]),
    "gzip with half of its checksum": ("gzip", ONE[:-6]),
    "gzip with its checksum alone": ("gzip", ONE[:-4]),
    "gzip without one byte of its size": ("gzip", ONE[:-1]),
    "deflate without its checksum": ("deflate", ZLIB[:-4]),
    "deflate with half of its checksum": ("deflate", ZLIB[:-2]),
    "deflate without one byte of its checksum": ("deflate", ZLIB[:-1]),
}


@pytest.mark.parametrize("framing", ["chunked", "length"])
@pytest.mark.parametrize(("coding", "body"), LENIENT.values(), ids=list(LENIENT))
def test_a_framed_body_is_whole_whose_content_is(
    client: Client, fault_server: FaultServer, coding: str, body: bytes, framing: Any
) -> None:
    """Some servers send no checksum, and some send bytes behind the body; requests accepts both."""
    assert in_both(client, fault_server, coding, body, framing) == (b"one", b"one")


@pytest.mark.parametrize(("coding", "body"), LENIENT.values(), ids=list(LENIENT))
def test_a_body_without_framing_must_have_its_trailer(
    client: Client, fault_server: FaultServer, coding: str, body: bytes
) -> None:
    """Without a trailer a cut would look like the end."""
    found = in_both(client, fault_server, coding, body, "close")

    assert found == (b"one", "StreamBroken")


@pytest.mark.parametrize("size", range(HEADER + 2, len(TWO) - 8))
def test_a_later_member_that_has_given_something_is_no_garbage(
    client: Client, fault_server: FaultServer, size: int
) -> None:
    """The end of the body is missing, and requests returns the part that came."""
    plain, ours = in_both(client, fault_server, "gzip", ONE + TWO[:size])

    assert isinstance(plain, bytes)
    assert b"onetwo".startswith(plain)
    assert ours == "StreamBroken"


WRONG = {
    "checksum of gzip": ("gzip", ONE[:-8] + b"\1\2\3\4" + ONE[-4:]),
    "size of gzip": ("gzip", ONE[:-4] + b"\4\0\0\0"),
    "checksum of deflate": ("deflate", ZLIB[:-4] + b"\1\2\3\4"),
    "flags": ("gzip", b"\x1f\x8b\x08\x20" + ONE[4:]),
    "method": ("gzip", b"\x1f\x8b\x07\0" + ONE[4:]),
    "checksum of the header": (
        "gzip",
        b"\x1f\x8b\x08\x02" + ONE[4:HEADER] + b"\0\0" + ONE[HEADER:],
    ),
    "preset dictionary": ("deflate", b"\x78\xbb" + ZLIB[2:]),
    "window": ("deflate", b"\x88\x1c" + ZLIB[2:]),
    "gzip as deflate": ("deflate", ONE),
    "deflate as gzip": ("gzip", ZLIB),
}


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize(("coding", "body"), WRONG.values(), ids=list(WRONG))
def test_what_is_wrong_is_an_error_as_in_requests(
    client: Client, fault_server: FaultServer, coding: str, body: bytes, framing: Any
) -> None:
    """A wrong checksum proves that the content is not the one that the peer sent."""
    found = in_both(client, fault_server, coding, body, framing)

    assert found == ("ContentDecodingError", "ContentDecodingError")


@pytest.mark.parametrize(
    ("coding", "body"), [("gzip", ONE[:-8] + b"\1\2"), ("deflate", ZLIB[:-4] + b"\1\2")]
)
def test_half_a_wrong_checksum_is_wrong(
    client: Client, fault_server: FaultServer, coding: str, body: bytes
) -> None:
    """Plain requests waits for the other half, and takes the content."""
    assert in_both(client, fault_server, coding, body) == (b"one", "ContentDecodingError")


@pytest.mark.parametrize("chunks", [[len(ONE + TWO)], [1]], ids=["at once", "byte by byte"])
def test_a_later_member_with_content_must_be_right(
    client: Client, fault_server: FaultServer, chunks: list[int]
) -> None:
    """Plain requests returns "one" or "onetwo", as the network cuts it, without a word."""
    body = ONE + TWO[:-8] + b"\1\2\3\4" + TWO[-4:]
    fault_server.script(
        respond(body, framing="chunked", chunks=chunks, headers={"Content-Encoding": "gzip"})
    )

    with pytest.raises(requests.exceptions.ContentDecodingError):
        client.get()


# RFC 1951 3.2.4 and 3.2.6: stored blocks without content, a fixed one with its end alone, and one
# with a literal before an invalid code.
_STORED, _LAST, _LITERAL_THEN_INVALID = b"\0\0\0\xff\xff", b"\x03\x00", b"\x4b\xc4\x3f"
BEHIND = {
    "no header": (b"\xff" * 40, True),
    "no block": (TWO[:HEADER] + b"\xff" * 40, True),
    "wrong lengths": (TWO[:HEADER] + b"\0\1\2\3\4" * 9, True),
    "wrong trailer": (TWO[:HEADER] + _LAST + b"\xff" * 5000, True),
    "wrong later block": (TWO[:HEADER] + _STORED * 9 + b"\xff" * 9, True),
    "wrong late block": (TWO[:HEADER] + _STORED * 900 + b"\xff" * 9, False),
    "wrong late trailer": (TWO[:HEADER] + _STORED * 900 + _LAST + b"\xff" * 9, False),
    "wrong behind content": (TWO[:HEADER] + _LITERAL_THEN_INVALID + b"\xff" * 9, False),
}


@pytest.mark.parametrize("size", [1, 2, 5, 100, 100_000])
@pytest.mark.parametrize(("behind", "is_garbage"), BEHIND.values(), ids=list(BEHIND))
def test_garbage_is_what_has_given_nothing_however_it_is_cut(
    behind: bytes, is_garbage: bool, size: int
) -> None:
    """A call of zlib that fails drops its output, so one large read would look empty."""
    pieces = content_of(decoder_of("gzip"), cut(ONE + behind, size))

    if is_garbage:
        assert b"".join(pieces) == b"one"
    else:
        with pytest.raises(urllib3.exceptions.DecodeError):
            list(pieces)


# -- odd bodies ----------------------------------------------------------------------------------


def test_members_follow_each_other(client: Client, fault_server: FaultServer) -> None:
    """RFC 1952 2.2: a file of several members is their contents, and the last one must be whole."""
    members = ONE + TWO
    assert in_both(client, fault_server, "gzip", members) == (b"onetwo", b"onetwo")

    first = len(ONE)
    assert whole_sizes("gzip", members, framed=False) == {0, first, len(members)}
    ends = {*range(first - 8, first + HEADER + 2), *range(len(members) - 8, len(members) + 1)}
    assert whole_sizes("gzip", members, framed=True) == {0, HEADER} | ends


@pytest.mark.parametrize("garbage", [b"\0" * 20, b"garbage behind it", b"\r\n", b"\0"])
@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_garbage_behind_a_body_is_ignored(
    client: Client, fault_server: FaultServer, framing: Any, garbage: bytes, coding: str
) -> None:
    """Padding has been seen in the wild. Requests and other clients ignore it, too."""
    body = packed([b"content"], coding) + garbage

    assert in_both(client, fault_server, coding, body, framing) == (b"content", b"content")


@pytest.mark.parametrize("coding", ["br", "zstd"])
def test_garbage_behind_other_bodies_is_an_error(
    client: Client, fault_server: FaultServer, coding: str
) -> None:
    """The error is the same in requests."""
    if coding not in ALL_CODINGS:
        pytest.skip(f"needs {coding}")
    body = packed([b"content"], coding) + b"garbage"

    assert in_both(client, fault_server, coding, body) == ("ContentDecodingError",) * 2


@pytest.mark.skipif(ZSTD is None, reason="needs zstd")
def test_frames_follow_each_other(client: Client, fault_server: FaultServer) -> None:
    """RFC 8878 3.1: frames with content, and frames that are skipped."""
    one, two = packed([b"one"], "zstd"), packed([b"two"], "zstd")
    skipped = b"\x50\x2a\x4d\x18" + struct.pack("<I", 3) + b"abc"
    for body in (
        one + two,
        skipped + one + two,
        one + skipped + skipped + two,
        one + two + skipped,
    ):
        assert in_both(client, fault_server, "zstd", body) == (b"onetwo", b"onetwo")


def test_the_trailer_of_gzip_has_the_size_modulo_2_to_the_32nd() -> None:
    """RFC 1952 2.3.1."""
    assert _inflate._GZIP.trailer(7, (1 << 32) + 9) == struct.pack("<II", 7, 9)


FIELDS = [b"", b"\x02\0ab", b"name\0", b"comment\0"]  # and FHCRC behind them


@pytest.mark.parametrize("flags", range(32))
def test_headers_of_gzip_are_read_with_all_their_fields(flags: int) -> None:
    """RFC 1952 2.3.1, as zlib reads them, and cut at every byte."""
    header = b"\x1f\x8b\x08" + bytes([flags]) + ONE[4:HEADER]
    header += b"".join(
        field for bit, field in zip((0, 4, 8, 16), FIELDS, strict=True) if flags & bit
    )
    if flags & 2:
        header += struct.pack("<H", zlib.crc32(header) & 0xFFFF)
    body = header + ONE[HEADER:]
    assert zlib.decompress(body, 31) == b"one"

    assert decoded("gzip", cut(body, 1))[0] == decoded("gzip", [body])[0] == b"one"
    assert not whole_sizes("gzip", body[: len(header) - 1], framed=True) - {0}
    if flags & 2:
        wrong = body[: len(header) - 1] + bytes([body[len(header) - 1] ^ 1]) + body[len(header) :]
        with pytest.raises(urllib3.exceptions.DecodeError):
            decoded("gzip", [wrong])


@pytest.mark.parametrize("coding", CHAINS)
def test_several_codings_are_undone(client: Client, fault_server: FaultServer, coding: str) -> None:
    """Each of them must have come to its end."""
    body = packed([b"content" * 20], coding)
    header = content_encoding(coding)
    assert in_both(client, fault_server, header, body, "close") == (b"content" * 20,) * 2

    fault_server.script(respond(body[:-2], framing="close", headers={"Content-Encoding": header}))
    with pytest.raises(StreamBroken):
        client.get()


HEADERS = (
    *("GZip", "x-gzip", "X-GZIP", " gzip", "gzip ", "\tgzip", "deflate", "zstd", "br"),
    *("identity", "", "x-unknown", "utf-8", "compress", "x-deflate", "gzip;q=1", "gzip gzip"),
    *("gzip,", ",gzip", "gzip, identity", "identity, gzip", "aws-chunked,gzip", "a, b"),
    "a,b,c,d,e,f",
)


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize(
    "body",
    [ONE, ZLIB, gzip.compress(ZLIB, mtime=0), b"as it is", b""],
    ids=["gzip", "deflate", "deflate, gzip", "text", "none"],
)
def test_a_header_means_what_it_means_to_requests(
    client: Client, fault_server: FaultServer, header: str, body: bytes
) -> None:
    """An unknown coding is left alone, since the caller may know how to undo it."""
    plain, ours = in_both(client, fault_server, header, body)

    assert ours == plain


def test_headers_of_one_name_are_a_list(client: Client, fault_server: FaultServer) -> None:
    """RFC 9110 5.3."""
    fields = [("Content-Encoding", "gzip"), ("Content-Encoding", "deflate")]
    fault_server.script(respond(packed([b"content"], "gzip, deflate"), headers=fields))

    assert client.get().content == b"content"


@pytest.mark.parametrize("coding", [*ALL_CODINGS[1:], *CHAINS])
@pytest.mark.parametrize("framing", FRAMINGS)
def test_an_empty_body_needs_no_coding(
    client: Client, fault_server: FaultServer, framing: Any, coding: str
) -> None:
    """Servers announce a coding for everything."""
    headers = {"Content-Encoding": content_encoding(coding)}
    fault_server.script(respond(b"", framing=framing, headers=headers))
    assert client.get().content == b""

    # The outer codings have come to their end, and an inner one has got nothing.
    _, _, outer = coding.rpartition(", ")
    fault_server.script(respond(packed([], outer), framing=framing, headers=headers))
    assert client.get().content == b""

    fault_server.script(coded_stream([], framing=framing, coding=coding))
    assert list(iter_bytes(client.get(stream=True))) == []


@pytest.mark.parametrize("coding", ALL_CODINGS[1:])
def test_what_is_no_coded_body_is_refused(
    client: Client, fault_server: FaultServer, coding: str
) -> None:
    """A stream reports the peer's fault; a buffered read raises the error of requests."""
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


# -- any bytes -----------------------------------------------------------------------------------

PROPERTY = settings(max_examples=150, deadline=None, derandomize=True, database=None)
TEXT = st.lists(st.binary(max_size=60) | st.builds(bytes, st.integers(0, 90_000)), max_size=4)
CODING = st.lists(
    st.sampled_from(sorted({*ALL_CODINGS[1:], "raw deflate"})), min_size=1, max_size=3
)
CUTS = st.lists(st.integers(0, 2000), max_size=8)
CHANGES = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=3)


def pieces_of(body: bytes, cuts: list[int]) -> list[bytes]:
    """The body cut at these places."""
    places = sorted(min(place, len(body)) for place in cuts)
    return [body[a:b] for a, b in itertools.pairwise([0, *places, len(body)])]


@PROPERTY
@given(TEXT, CODING, CUTS)
def test_any_bytes_in_any_chain_come_back(
    texts: list[bytes], codings: list[str], cuts: list[int]
) -> None:
    """The cuts make no difference, and a piece is never larger than promised."""
    coding = ", ".join(codings)
    decoder = decoder_of(coding)
    pieces = list(content_of(decoder, pieces_of(packed(texts, coding), cuts)))

    assert b"".join(pieces) == b"".join(texts)
    assert max(map(len, pieces)) <= 64 * 1024
    assert decoder.is_whole(framed=True)
    assert decoder.is_whole(framed=False)


@PROPERTY
@given(TEXT, CODING, st.data())
def test_no_truncation_is_whole_without_framing(
    texts: list[bytes], codings: list[str], data: st.DataObject
) -> None:
    """The output is the beginning of the content."""
    coding = ", ".join(codings)
    body = packed(texts, coding)
    assume(len(body) > 1)
    size = data.draw(st.integers(1, len(body) - 1))
    content, decoder = decoded(coding, [body[:size]])

    assert not decoder.is_whole(framed=False)
    assert b"".join(texts).startswith(content)


@PROPERTY
@given(TEXT, CODING, CHANGES, st.binary(max_size=12), CUTS)
def test_changed_bytes_give_what_they_give_to_requests_or_an_error(
    texts: list[bytes],
    codings: list[str],
    changes: list[tuple[int, int]],
    behind: bytes,
    cuts: list[int],
) -> None:
    """The cuts do not decide, and no error is another than urllib3's DecodeError."""
    coding = ", ".join(codings)
    body = bytearray(packed(texts, coding))
    for place, byte in changes:
        body[place % len(body)] = byte
    body += behind
    found: list[bytes | str] = []
    for pieces in ([bytes(body)], pieces_of(bytes(body), cuts)):
        try:
            content, decoder = decoded(coding, pieces)
            found.append(content if decoder.is_whole(framed=True) else "cut")
        except urllib3.exceptions.DecodeError:
            found.append("wrong")

    assert found[0] == found[1]
    if isinstance(found[0], bytes):
        assert response_of(content_encoding(coding), bytes(body)).read() == found[0]
