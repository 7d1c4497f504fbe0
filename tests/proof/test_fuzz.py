"""Any bytes, in any cuts, bring the same content, no error but ours, and bounded memory."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import io
import itertools
import os
import re
import socket
import threading
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
import requests
from chat_wires import raw_of
from clients import PATIENT, Client
from coded_bodies import until_error
from fuzzing.contents import events as reference
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from sse_vectors import cut, decoded, vectors

from resilient_requests import Cancelled, StreamProtocolError, Timeouts, iter_bytes, iter_events
from resilient_requests.chat._forms import JSONLines
from resilient_requests.stream._framing import ChunkFraming
from resilient_requests.stream._lines import lines
from resilient_requests.stream._response import resilient
from resilient_requests.stream._unread import Unread
from resilient_requests.stream.events._sse import EventTooLarge, SSEDecoder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# A profile of this module's own: the same examples on every run, and new ones where somebody asks
# for a number of them.
FUZZ = settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "60")),
    deadline=None,
    derandomize="FUZZ_EXAMPLES" not in os.environ,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)

# -- cuts


@st.composite
def pieces_of(draw: Any, data: bytes) -> list[bytes]:
    """The bytes, cut at random places, some of them twice."""
    places = sorted(draw(st.lists(st.integers(0, len(data)), max_size=12)))
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


SOUP = st.lists(
    st.sampled_from(
        [
            *(
                b"data:",
                b"data: ",
                b"data",
                b"event:",
                b"event: x",
                b"id:",
                b"id: 7",
                b"retry:",
                b"retry: 10",
                b"error: e",
            ),
            *(
                b":",
                b" ",
                b"\n",
                b"\r",
                b"\r\n",
                b"\n\n",
                b"\r\r",
                b"\r\n\r\n",
                b"\n\ndata: ",
                b"\ndata: x\n",
            ),
            *(
                b"\xef\xbb\xbf",
                b"\xef",
                b"\xbb",
                b"\xbf",
                b"\0",
                b"\xff",
                b"\xc3",
                b"\xa9",
                b"\xe2\x80\xa8",
                b"\xc2\x85",
            ),
            *(
                b"x",
                b"{}",
                b"1",
                b"-",
                "٣".encode(),
                b"\x0b",
                b"\x0c",
                b"\x1c",
                b"DATA:",
                b"datax:",
            ),
        ]
    ),
    max_size=40,
).map(b"".join)


@FUZZ
@given(st.data())
def test_no_cut_changes_what_a_vector_says(data: Any) -> None:
    """The cuts are at random places, like those of a network."""
    vector = data.draw(st.sampled_from(vectors()))
    decoder = SSEDecoder()

    assert decoded(decoder, data.draw(pieces_of(vector.data))) == vector.events
    assert decoder.last_event_id == vector.end["last_event_id"]
    assert decoder.retry == vector.end["retry_ms"]


@FUZZ
@given(st.data())
def test_the_decoder_agrees_with_the_standard(data: Any) -> None:
    """They agree on any mixture of a stream's parts, in any cut."""
    soup = data.draw(SOUP)
    decoder = SSEDecoder()
    events = [tuple(each) for piece in data.draw(pieces_of(soup)) for each in decoder.feed(piece)]
    expected, last_id, retry = reference(soup)

    assert events == expected
    assert (decoder.last_event_id, decoder.retry) == (last_id, retry)
    # A flush adds the events that an end of the line and a blank line would have brought.
    flushed, _, _ = reference(soup + (b"" if soup.endswith(b"\r") else b"\n") + b"\n\n")
    assert events + [tuple(each) for each in decoder.flush()] == flushed


@FUZZ
@given(st.data())
def test_the_limit_bounds_what_is_held(data: Any) -> None:
    """The cuts change neither the verdict about the limit nor the events before it."""
    soup = data.draw(SOUP).removeprefix(
        b"\xef\xbb\xbf"
    )  # which counts only while its line is unfinished
    most = data.draw(st.integers(1, 60))

    def outcome(pieces: list[bytes]) -> tuple[list[Any], bool]:
        decoder = SSEDecoder(most)
        events: list[Any] = []
        for piece in pieces:
            try:
                events += decoder.feed(piece)
            except EventTooLarge as error:
                return [*events, *error.events], True
        return events, False

    assert outcome([soup]) == outcome(cut(soup, 1)) == outcome(data.draw(pieces_of(soup)))


def taken(delimiter: bytes | None, pieces: list[bytes]) -> list[bytes]:
    """The lines that a loop takes out of the pieces, as they come."""
    unread, take = Unread(), lines(delimiter)
    found = []
    for piece in pieces:
        unread.add(piece, ends_chunk=False)
        while (line := take(unread, False)) is not None:
            found.append(line)
    last = take(unread, True)
    return found if last is None else [*found, last]


@FUZZ
@given(st.data())
def test_lines_agree_with_splitlines(data: Any) -> None:
    """The bytes agree in any cut."""
    soup = data.draw(SOUP)

    assert taken(None, data.draw(pieces_of(soup))) == soup.splitlines()


@FUZZ
@given(st.data())
def test_delimited_lines_agree_with_split(data: Any) -> None:
    """Some delimiters overlap themselves."""
    soup = data.draw(
        st.lists(st.sampled_from([b"a", b"b", b"ab", b"aa"]), max_size=30).map(b"".join)
    )
    delimiter = data.draw(st.sampled_from([b"a", b"aa", b"ab", b"aab", b"abab"]))
    expected = soup.split(delimiter)

    found = taken(delimiter, data.draw(pieces_of(soup)))

    assert found == (expected if expected[-1] else expected[:-1])


@FUZZ
@given(st.data())
def test_documents_agree_with_split(data: Any) -> None:
    """Each line is one document, and a blank line is none."""
    soup = data.draw(SOUP)
    decoder = JSONLines()
    found = [each.data for piece in data.draw(pieces_of(soup)) for each in decoder.feed(piece)]
    found += [each.data for each in decoder.flush()]

    expected = [
        line.decode("utf-8", "replace").removeprefix("\ufeff")
        for line in soup.split(b"\n")
        if line.strip()
    ]
    assert [text.strip() for text in found] == [text.strip() for text in expected]


# -- chunks


@st.composite
def chunked_bodies(draw: Any) -> bytes:
    """A valid chunked body: sizes in any case and with zeros before them, extensions, trailers."""
    body = b""
    for content in draw(st.lists(st.binary(min_size=1, max_size=40), max_size=6)):
        size = f"{len(content):{draw(st.sampled_from(['x', 'X', '04x', '020x']))}}".encode()
        extension = draw(st.sampled_from([b"", b";a", b';a="b;c"', b" ;x=1"]))
        body += size + extension + b"\r\n" + content + b"\r\n"
    trailers = draw(st.sampled_from([b"", b"X-Checksum: 1\r\n", b"A: b\r\nC: d\r\n"]))
    return bytes(
        body + draw(st.sampled_from([b"0", b"000", b"0;last"])) + b"\r\n" + trailers + b"\r\n"
    )


@st.composite
def mutated(draw: Any, bodies: Any) -> bytes:
    """A body with some bytes changed, taken out or put in."""
    body = bytearray(draw(bodies))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(body)))
        new = draw(
            st.sampled_from(
                [b"", b"\r", b"\n", b"\r\n", b"0", b"5", b"g", b";", b" ", b"-", b"\0", b"+", b"_"]
            )
        )
        body[at : at + draw(st.integers(0, 2))] = new
    return bytes(body)


def ours(pieces: list[bytes]) -> tuple[bytes, bool]:
    """The content of a chunked body, and whether it was good."""
    framing = ChunkFraming()
    content = b""
    for piece in pieces:
        content += b"".join(framing.feed(piece))
        if framing.fault is not None:
            return content, False
        if framing.is_over:
            break
    return content, framing.may_end


class _File:
    """The socket of http.client, as far as it is used."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)


def theirs(body: bytes) -> tuple[bytes, bool]:
    """The same by http.client."""
    answer: Any = _File(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
    response = http.client.HTTPResponse(answer)
    response.begin()
    content = b""
    try:
        while piece := response.read1(1 << 16):
            content += piece
    except (http.client.HTTPException, ValueError):
        return content, False
    finally:
        response.close()
    return content, True


@FUZZ
@given(st.data())
def test_good_chunks_are_decoded_as_by_http_client(data: Any) -> None:
    """The content is the same in any cut, and the bytes behind the body belong to nobody."""
    body = data.draw(chunked_bodies())
    surplus = data.draw(st.sampled_from([b"", b"HTTP/1.1 200 OK\r\n", b"\r\n"]))

    assert ours(data.draw(pieces_of(body + surplus))) == theirs(body) == ours([body])
    framing = ChunkFraming()
    framing.feed(body + surplus)
    assert (framing.is_over, framing.surplus) == (True, surplus)


def chunks_by_the_book(body: bytes, line_end: bytes) -> tuple[bytes, bool]:
    """The content by the grammar (RFC 9112 7.1), and whether the last chunk was seen.

    ``line_end``: of a size. CRLF, and nothing else, stands behind the data of a chunk.
    """
    size_line = re.compile(rb"[ \t]*(0*[0-9A-Fa-f]{1,15})[ \t]*(?:;[^\n]*)?" + line_end)
    content, at = b"", 0
    while (found := size_line.match(body, at)) is not None:
        size, at = int(found[1], 16), found.end()
        if not size:
            return content, True
        content += body[at : at + size]
        at += size + 2
        if body[at - 2 : at] != b"\r\n":
            break
    return content, False


# The differences to http.client are meant. It does not look at the two bytes behind a chunk. It
# accepts every size that int() accepts (signs, underscores, "0x"). Both let a body be read as
# another than the peer sent. Both parsers accept the LF of sloppy servers behind a size.
@FUZZ
@given(st.data())
def test_bad_chunks_are_refused_by_the_book(data: Any) -> None:
    """The good part stands, in any cut; http.client reads the same from a strictly good part."""
    body = data.draw(mutated(chunked_bodies()))
    outcome = ours(data.draw(pieces_of(body)))

    assert outcome == ours([body]) == ours(cut(body, 1)) == chunks_by_the_book(body, rb"\r?\n")
    strictly = chunks_by_the_book(body, rb"\r\n")
    event(f"good {outcome[1]}, strictly {strictly[1]}")
    if strictly[1]:
        assert outcome == strictly == theirs(body)


@FUZZ
@given(st.data())
def test_random_bytes_are_no_chunks(data: Any) -> None:
    """Nothing but our error, the same in any cut."""
    body = data.draw(st.binary(max_size=60) | mutated(chunked_bodies()))

    assert ours([body]) == ours(data.draw(pieces_of(body)))


# -- whole responses

HEADS = st.lists(
    st.sampled_from(
        [
            *(
                b"HTTP/1.1 200 OK\r\n",
                b"HTTP/1.0 200\r\n",
                b"HTTP/1.1 204 No\r\n",
                b"HTTP/1.1 103 Early\r\n\r\n",
                b"HTTP",
            ),
            *(
                b"Content-Type: text/event-stream\r\n",
                b"Transfer-Encoding: chunked\r\n",
                b"Content-Encoding: gzip\r\n",
            ),
            *(
                b"Content-Length: 5\r\n",
                b"Content-Length: -1\r\n",
                b"Content-Length: x\r\n",
                b"Content-Encoding: br\r\n",
            ),
            *(
                b"Connection: close\r\n",
                b": x\r\n",
                b"\0\r\n",
                b"X\r\n",
                b"\r\n",
                b"\n",
                b"Keep-Alive: timeout=x\r\n",
            ),
            *(
                b"5\r\nhello\r\n",
                b"0\r\n\r\n",
                b"data: x\n\n",
                b"\x1f\x8b\x08\0",
                b"\xff" * 9,
                b"zz",
            ),
        ]
    ),
    max_size=12,
).map(b"".join)
STARTED = HEADS.map(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n".__add__)


class RawServer:
    """Sends its answer in one piece to each client that connects, and leaves."""

    def __init__(self) -> None:
        self.answer = b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, name="raw server")
        self._thread.start()

    def _serve(self) -> None:
        while True:
            sock, _ = self._listener.accept()
            with sock, contextlib.suppress(OSError):
                sock.settimeout(5)
                if not sock.recv(1 << 16):
                    return  # `close` has connected
                sock.sendall(self.answer)
                sock.shutdown(socket.SHUT_WR)
                while sock.recv(1 << 16):
                    pass

    def close(self) -> None:
        with socket.create_connection(self._listener.getsockname()) as sock:
            sock.shutdown(socket.SHUT_WR)
            self._thread.join(10)
        self._listener.close()


@pytest.fixture(scope="module")
def raw() -> Iterator[RawServer]:
    """One for all examples."""
    server = RawServer()
    yield server
    server.close()


USES: dict[str, Callable[[requests.Session, str], object]] = {
    "content": lambda session, url: session.get(url).content,
    "iter_bytes": lambda session, url: list(iter_bytes(session.get(url, stream=True))),
    "iter_events": lambda session, url: list(
        iter_events(session.get(url, stream=True), max_event_bytes=1000)
    ),
    "iter_lines": lambda session, url: list(session.get(url, stream=True).iter_lines()),
    "iter_content": lambda session, url: list(session.get(url, stream=True).iter_content(3)),
}


@pytest.mark.leaks(reason="the server outlives the test")
@FUZZ
@given(use=st.sampled_from(sorted(USES)), answer=STARTED | HEADS | st.binary(max_size=80))
def test_random_bytes_are_no_response(raw: RawServer, use: str, answer: bytes) -> None:
    """Such bytes bring an error of requests or ours, no hang, and nothing left in flight."""
    raw.answer = answer
    with Client(raw.url, policy={"max_retries": 0}, timeouts=PATIENT) as client:
        try:
            USES[use](client.session, raw.url)
        except (requests.RequestException, Cancelled) as error:
            event(type(error).__name__)
        assert client.adapter.stats().in_flight == 0


TURNS: dict[str, Callable[[requests.Response], Iterator[Any]]] = {
    "blocks of 1": lambda response: response.iter_content(1),
    "blocks of 100": lambda response: response.iter_content(100),
    "blocks of 20000": lambda response: response.iter_content(20000),
    "what arrives": lambda response: response.iter_content(None),
    "text": lambda response: response.iter_content(None, decode_unicode=True),
    "blocks of text": lambda response: response.iter_content(77, decode_unicode=True),
    "lines": lambda response: response.iter_lines(),
    "lines of text": lambda response: response.iter_lines(decode_unicode=True),
    "split": lambda response: response.iter_lines(delimiter=b"\r\n"),
    "split text": lambda response: response.iter_lines(decode_unicode=True, delimiter="\n"),
}


@st.composite
def answers(draw: Any) -> tuple[bytes, bytes]:
    """A body of lines, and a response in some framing, coding and type that brings it."""
    size = draw(st.sampled_from([0, 1, 30, 5000, 60000]))
    end = draw(st.sampled_from([b"\n", b"\r\n", b"\r", b"\n\r\n"]))
    body = b"".join(b"%d%b" % (number, end) for number in range(20000))[:size]
    kind = draw(st.sampled_from([b"a/b", b"text/event-stream"]))
    fields = b"HTTP/1.1 200 OK\r\nContent-Type: %b; charset=utf-8\r\n" % kind
    sent = body
    if draw(st.booleans()):
        sent, fields = gzip.compress(body, 1), fields + b"Content-Encoding: gzip\r\n"
    framing = draw(st.sampled_from(["length", "chunked", "close"]))
    if framing == "length":
        fields += b"Content-Length: %d\r\n" % len(sent)
    elif framing == "chunked":
        chunks = cut(sent, draw(st.sampled_from([10, 900, 13000])))
        sent = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
        fields += b"Transfer-Encoding: chunked\r\n"
    return body, fields + b"\r\n" + sent


@pytest.mark.leaks(reason="the server outlives the test")
@FUZZ
@given(
    answer=answers(),
    turns=st.lists(st.tuples(st.sampled_from(sorted(TURNS)), st.integers(1, 5)), max_size=20),
)
def test_loops_that_take_turns_get_each_byte_once(
    raw: RawServer, answer: tuple[bytes, bytes], turns: list[tuple[str, int]]
) -> None:
    """The content is the rest that they leave; loops over lines drop line ends, and only those."""
    body, raw.answer = answer
    seen: list[Any] = []
    with Client(raw.url, policy={"max_retries": 0}, timeouts=PATIENT) as client:
        response = client.get(stream=True)
        loops: dict[str, Iterator[Any]] = {}
        for turn, count in turns:
            if turn not in loops and not response._content_consumed:
                loops[turn] = TURNS[turn](response)
            seen += itertools.islice(loops.get(turn, ()), count)
        if not response._content_consumed:
            seen.append(response.content)
        assert client.adapter.stats().in_flight == 0

    found = b"".join(piece.encode() if isinstance(piece, str) else piece for piece in seen)
    assert found.translate(None, b"\r\n") == body.translate(None, b"\r\n")


@FUZZ
@given(st.data())
def test_lines_of_loops_that_take_turns_agree_with_splitlines(data: Any) -> None:
    """A line end that comes in two reads is one line end for each loop; blocks see all bytes."""
    body = b"".join(
        data.draw(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"a"]), max_size=40))
    )
    made = requests.Response()
    made.status_code, made.raw = 200, raw_of(filter(None, data.draw(pieces_of(body))))
    response = resilient(made)
    loops: Any = [
        response.iter_lines(),
        response.iter_lines(),
        response.iter_content(data.draw(st.integers(1, 5))),
    ]
    seen = []
    for turn in data.draw(st.lists(st.integers(0, 2), max_size=60)):
        piece = next(loops[turn], None)
        if piece is not None:
            seen.append((piece, turn == 2))
    seen += [(line, False) for line in loops[0]]

    at = 0
    for piece, is_block in seen:
        assert body.startswith(piece, at)
        at += len(piece)
        if not is_block:
            end = re.compile(rb"\r\n?|\n|$").match(body, at)
            assert end is not None
            assert end.group() or at == len(body)
            at = end.end()
    assert at == len(body)


@pytest.mark.parametrize(
    "piece",
    [
        b"x" * 1000,
        b"data: x\n" * 100,
        b"data:\n" * 100,
        b"\xc3\xa9" * 500,
        b": c\n" * 300,
        b"id: 7\n" * 100,
        b"\0" * 1000,
    ],
    ids=lambda piece: repr(piece[:6]),
)
def test_memory_is_bounded_by_the_limit(piece: bytes) -> None:
    """Small lines of any kind cost more than their bytes, so a small multiple is allowed."""
    most = 1 << 15
    decoder = SSEDecoder(most)
    tracemalloc.start()
    try:
        fed, _ = until_error(EventTooLarge, map(decoder.feed, [piece] * (10 * most // len(piece))))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert not any(fed)
    assert peak < 12 * most


@pytest.mark.leaks(reason="the server outlives the test")
def test_an_endless_event_costs_no_more_than_its_limit(raw: RawServer) -> None:
    """The bound holds through all layers; far more bytes are on their way than are taken."""
    raw.answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: " + b"x" * (
        8 << 20
    )
    with Client(raw.url, timeouts=Timeouts(total=10)) as client:
        stream = iter_events(client.get(stream=True), max_event_bytes=1 << 18)
        tracemalloc.start()
        try:
            with pytest.raises(StreamProtocolError):
                next(stream)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert peak < 6 << 18
