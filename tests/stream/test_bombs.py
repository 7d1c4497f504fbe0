"""A small coded body that expands to a huge one costs only the part that is read."""

from __future__ import annotations

import io
import subprocess
import sys
import time
import tracemalloc
import zlib
from typing import TYPE_CHECKING, Any

import pytest
import requests
import urllib3
from clients import Client, in_time
from coded_bodies import (
    ALL_CODINGS,
    BROTLI,
    CHAINS,
    EVENT_STREAM,
    READERS,
    ZSTD,
    bomb,
    content_encoding,
    opened,
    packed,
    until_error,
)

from resilient_requests import (
    Cancelled,
    CancelScope,
    DeadlineExceeded,
    StreamProtocolError,
    Timeouts,
    iter_bytes,
)
from resilient_requests.stream import _coding
from resilient_requests.stream._coding import ContentDecoder
from resilient_requests.testing import FaultServer, respond

if TYPE_CHECKING:
    from collections.abc import Iterator

PIECE = 64 * 1024
EVENT = b"data: " + b"x" * 1016 + b"\n\n"
MEBIBYTE = EVENT * 1024
CODED = (*ALL_CODINGS[1:], *CHAINS)


@pytest.fixture
def client(fault_server: FaultServer) -> Iterator[Client]:
    """Ours."""
    with Client(fault_server, policy={"max_retries": 0}) as client:
        yield client


def coded(coding: str, body: bytes, **options: Any) -> Any:
    """A response with that body, as an event stream in its Content-Encoding."""
    headers = {"Content-Encoding": content_encoding(coding), "Content-Type": EVENT_STREAM}
    return respond(body, headers=headers, **options)


def decoder_of(coding: str) -> ContentDecoder:
    """The decoder for a response in that coding."""
    headers = {"Content-Encoding": content_encoding(coding)}
    return ContentDecoder(
        urllib3.HTTPResponse(io.BytesIO(), headers=headers, preload_content=False)
    )


# -- pieces --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1000, PIECE, 1 << 30])
@pytest.mark.parametrize("coding", CODED)
def test_no_piece_is_larger_than_promised(coding: str, size: int) -> None:
    """The bound holds for input of any size, and no byte is lost at the bound."""
    body = bomb(coding, MEBIBYTE, 20)
    decoder = decoder_of(coding)
    pieces = []
    for at in range(0, len(body), size):
        pieces.append(decoder.decode(body[at : at + size]))
        while decoder.has_more:
            pieces.append(decoder.decode(b""))

    assert max(map(len, pieces)) <= PIECE
    assert b"".join(pieces) == MEBIBYTE * 20
    assert decoder.is_whole(framed=True)


@pytest.mark.parametrize("size", [PIECE - 1, PIECE, PIECE + 1, 3 * PIECE])
@pytest.mark.parametrize("coding", CODED)
def test_a_body_may_end_at_the_bound(coding: str, size: int) -> None:
    """A decompressor may hold the rest of a copy there, though it has taken all of its input."""
    for body in (
        packed([bytes(size)], coding),
        packed([bytes(range(256)) * (size // 256)], coding),
    ):
        decoder = decoder_of(coding)
        decoder.decode(body)
        while decoder.has_more:
            decoder.decode(b"")
        assert decoder.is_whole(framed=False)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("coding", ALL_CODINGS[1:])
def test_every_reader_gives_all_of_it(
    client: Client, fault_server: FaultServer, coding: str, reader: str
) -> None:
    """The pieces are bounded, too."""
    content = EVENT * 300
    response = opened(client, fault_server, coded(coding, bomb(coding, EVENT, 300)))
    pieces = list(READERS[reader](response))

    assert b"".join(pieces).replace(b"\n", b"") == content.replace(b"\n", b"")
    assert max(map(len, pieces)) <= PIECE


@pytest.mark.parametrize("coding", ALL_CODINGS[1:])
def test_blocks_of_a_coded_chunk_are_full(
    client: Client, fault_server: FaultServer, coding: str
) -> None:
    """A shorter block ends a chunk, and no piece of one."""
    body = bomb(coding, EVENT, 300)
    headers = {"Content-Encoding": coding, "Content-Type": "text/plain"}
    reply = respond(body, framing="chunked", chunks=[len(body)], headers=headers)
    sizes = [len(block) for block in opened(client, fault_server, reply).iter_content(1000)]

    assert set(sizes[:-1]) == {1000}


# -- limits --------------------------------------------------------------------------------------


def test_more_than_five_codings_are_an_error_that_says_so(
    client: Client, fault_server: FaultServer
) -> None:
    """urllib3 does the same since 2.6, and the words are its own."""
    body = b"content"
    for _ in range(6):
        body = zlib.compress(body)
    five, six = (", ".join(["deflate"] * number) for number in (5, 6))
    fault_server.script(coded(five, zlib.decompress(body)))
    assert client.get().content == b"content"

    fault_server.script(coded(six, body))
    with pytest.raises(
        requests.exceptions.ContentDecodingError,
        match="Too many content encodings in the chain: 6 > 5",
    ):
        client.get()
    with pytest.raises(StreamProtocolError) as caught:
        list(iter_bytes(opened(client, fault_server, coded(six, body))))
    assert "6 > 5" in str(caught.value.__cause__)

    fault_server.script(coded(six, b""))
    assert client.get().content == b""


def with_window(coding: str, bits: int) -> bytes:
    """A body whose decompressor needs a window of 2**bits bytes."""
    if coding == "br":
        brotli = BROTLI.Compressor(lgwin=bits)
        return bytes(brotli.process(packed([b"content"], "gzip")) + brotli.finish())
    options = {ZSTD.CompressionParameter.window_log: bits}
    zstd = ZSTD.ZstdCompressor(options=options)
    return bytes(zstd.compress(packed([b"content"], "gzip")) + zstd.flush())


@pytest.mark.parametrize("coding", ["br", "zstd"])
def test_the_window_of_an_outer_coding_is_bounded(coding: str) -> None:
    """Nobody sees the output of an outer coding.

    Memory would grow without a delivered byte.
    """
    if coding not in ALL_CODINGS or not hasattr(ZSTD, "CompressionParameter"):
        pytest.skip(f"needs {coding}")
    for bits in (10, 16, 17, 18, 22):
        assert decoder_of(f"gzip, {coding}").decode(with_window(coding, bits)) == b"content"

    for bits in (23, 24):
        with pytest.raises(urllib3.exceptions.DecodeError):
            decoder_of(f"gzip, {coding}").decode(with_window(coding, bits))
        # Any server may send it alone.
        assert decoder_of(coding).decode(with_window(coding, bits)) == packed([b"content"], "gzip")


def test_an_endless_header_is_an_error() -> None:
    """It has nowhere to go, and a gzip around it makes it a thousandfold."""
    decoder = decoder_of("gzip, gzip")
    member = b"\x1f\x8b\x08\x08" + bytes(6) + b"n" * (1 << 20)
    assert decoder.decode(packed([member], "gzip")) == b""
    assert decoder.decode(b"") == b""

    with pytest.raises(urllib3.exceptions.DecodeError, match="more than 131072 bytes"):
        decoder.decode(b"")


# -- ending it -----------------------------------------------------------------------------------


@pytest.mark.parametrize("coding", CODED)
def test_a_cancel_takes_effect_between_two_pieces(
    client: Client, fault_server: FaultServer, coding: str
) -> None:
    """The rest has arrived, and is not decoded."""
    with CancelScope() as scope:
        stream = iter_bytes(opened(client, fault_server, coded(coding, bomb(coding, MEBIBYTE, 20))))
        assert next(stream)
        scope.cancel()
        pieces, _ = until_error(Cancelled, stream)

    assert pieces == []


def test_a_deadline_ends_what_gives_nothing(client: Client, fault_server: FaultServer) -> None:
    """A gigabyte of empty blocks comes in one read, and nobody else would look at the clock."""
    client.adapter._timeouts = Timeouts(total=0.3)
    blocks = b"\0\0\0\xff\xff" * (200 << 10)
    fault_server.script(coded("raw deflate, gzip, gzip", bomb("gzip, gzip", blocks, 1024)))
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        client.get()

    in_time(time.monotonic() - began, 2.0)


# -- memory --------------------------------------------------------------------------------------


@pytest.mark.parametrize("coding", CHAINS)
def test_nothing_piles_up_between_two_codings(coding: str) -> None:
    """An inner one that gives much is not fed meanwhile."""
    inner = coding.partition(", ")[0]
    kinds = {"br": _coding._Brotli, "zstd": _coding._Zstd}
    if inner in kinds and kinds[inner]._sip < PIECE:
        pytest.skip("the package knows no limit: what it gives at once is held")
    decoder = decoder_of(coding)
    decoder.decode(bomb(coding, MEBIBYTE, 1024)[:PIECE])
    tracemalloc.start()
    try:
        for _ in range(200):
            assert decoder.has_more
            decoder.decode(b"")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak <= 8 * PIECE


READ_SOME = """
import re, resource, sys
import requests
from resilient_requests import ResilientAdapter, iter_bytes, iter_events

def status(name):
    return int(re.search(name + r":\\s*(\\d+) kB", open("/proc/self/status").read())[1]) << 10

url, most = sys.argv[1], int(sys.argv[2])
session = requests.Session()
session.mount("http://", ResilientAdapter())
session.get(url + "/small").content  # all that is imported, and made once
limit = status("VmSize") + (64 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for read in (
    iter_bytes,
    lambda response: response.iter_content(None),
    lambda response: response.iter_content(10_000),
    lambda response: response.iter_lines(),
    lambda response: (event.data for event in iter_events(response)),
):
    before, largest, total = status("VmHWM"), 0, 0
    with session.get(url + "/bomb", stream=True) as response:
        for item in read(response):
            largest, total = max(largest, len(item)), total + len(item)
            if total >= most:
                break
    print(largest, total, status("VmHWM") - before, flush=True)
response = session.get(url + "/content")
print(0, len(response.content), status("VmHWM") - before, flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("coding", [*ALL_CODINGS[1:], *CHAINS[-1:]])
def test_a_gibibyte_costs_what_is_read_of_it(fault_server: FaultServer, coding: str) -> None:
    """Each of the loops reads 32 MiB of it in a process that could not hold it all."""
    for path, times in (("/small", 1), ("/content", 8), ("/bomb", 1024)):
        fault_server.route(path, coded(coding, bomb(coding, MEBIBYTE, times)))
    ran = subprocess.run(
        [sys.executable, "-c", READ_SOME, fault_server.url, str(32 << 20)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )

    assert ran.returncode == 0, ran.stderr
    *loops, content = [[int(figure) for figure in line.split()] for line in ran.stdout.splitlines()]
    assert len(loops) == 5
    for largest, total, growth in loops:
        assert largest <= PIECE
        assert total >= 32 << 20
        assert growth <= 16 << 20
    assert content[1] == 8 << 20
    assert content[2] <= (2 * 8 + 16) << 20  # the pieces, and their result


@pytest.mark.skipif(getattr(BROTLI, "__name__", "") != "brotli", reason="needs brotli")
def test_brotli_without_a_limit_gets_few_bytes_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Brotli has no limit before 1.2. One meta-block of at most 16 MiB may come at once."""
    largest = 0
    decompressor = BROTLI.Decompressor

    class Unlimited:
        def __init__(self) -> None:
            self._brotli = decompressor()
            self.is_finished = self._brotli.is_finished

        def process(self, data: bytes) -> bytes:
            nonlocal largest
            content: bytes = self._brotli.process(data)
            largest = max(largest, len(content))
            return content

    monkeypatch.setattr(_coding._Brotli, "_has_limit", False)
    monkeypatch.setattr(_coding._Brotli, "_sip", 8)
    monkeypatch.setattr(_coding._BROTLI, "Decompressor", Unlimited)
    body = bomb("br", bytes(16 << 20), 3)
    decoder = decoder_of("br")
    total = len(decoder.decode(body))
    while decoder.has_more:
        piece = decoder.decode(b"")
        total += len(piece)
        assert len(piece) <= PIECE

    assert total == 48 << 20
    assert largest <= 16 << 20
