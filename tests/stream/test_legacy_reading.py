"""Code written for requests reads our responses as before: promptly, and without losing a byte."""

from __future__ import annotations

import codecs
import contextlib
import itertools
import json
import pickle
import sys
import threading
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
import requests
from clients import Client
from coded_bodies import CODINGS, EVENT_STREAM, FRAMINGS, READERS, coded_stream, opened, until_error

from resilient_requests import HEARTBEAT, StreamBroken, StreamIdle, StreamProtocolError, iter_bytes
from resilient_requests.stream import _unread
from resilient_requests.stream._lines import Take, TextLineLoop, lines
from resilient_requests.stream._unread import Unread
from resilient_requests.testing import FaultServer, respond, stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import FrameType

BODY = bytes(range(256)) * 300
PLAIN = "application/octet-stream"
TYPED = {"Content-Type": EVENT_STREAM}


@contextlib.contextmanager
def both(server: FaultServer, *reply: Any) -> Iterator[list[requests.Response]]:
    """The same reply by requests' own adapter, and by ours."""
    server.script(*reply, *reply)
    with requests.Session() as plain, Client(server) as client:
        plain.verify = client.session.verify
        yield [plain.get(server.url, stream=True, timeout=5), client.get(stream=True)]


@pytest.mark.parametrize("first", READERS.values(), ids=list(READERS))
def test_a_body_that_cannot_be_decoded_fails_alike_in_every_loop(
    client: Client, server: FaultServer, first: Callable[[requests.Response], Iterator[bytes]]
) -> None:
    """The class of the error depends on the reader alone.

    A second reader must not need another except clause.
    """
    response = opened(
        client, server, respond(b"<html>" * 9, headers={"Content-Encoding": "gzip"} | TYPED)
    )
    with pytest.raises((requests.exceptions.ContentDecodingError, StreamProtocolError)):
        next(first(response))

    for name, read in READERS.items():
        is_stream = name in ("iter_events", "iter_bytes")
        with pytest.raises(
            StreamProtocolError if is_stream else requests.exceptions.ContentDecodingError
        ):
            next(read(response))


# -- iter_content ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 1024, 10240, 65536, 1 << 20])
@pytest.mark.parametrize("framing", ["length", "close"])
def test_blocks_have_the_size_that_was_asked_for(
    server: FaultServer, framing: Any, size: int
) -> None:
    """Uploads in parts and ciphers rely on it; only the last may be shorter."""
    body = BODY if size > 1 else BODY[:500]
    with both(server, respond(body, framing=framing, chunks=[900, 7, 13000])) as (theirs, ours):
        blocks = list(ours.iter_content(size))

        assert [len(block) for block in blocks[:-1]] == [size] * (len(blocks) - 1)
        assert blocks == list(theirs.iter_content(size))


@pytest.mark.parametrize("size", [7, 1024, 65536])
def test_blocks_of_a_chunked_body_are_no_larger(server: FaultServer, size: int) -> None:
    """Shorter ones are allowed behind a chunk, as in requests."""
    with both(server, respond(BODY, framing="chunked", chunks=[900, 7, 13000])) as (theirs, ours):
        blocks = list(ours.iter_content(size))

        assert max(map(len, blocks)) <= size
        assert b"".join(blocks) == BODY == b"".join(theirs.iter_content(size))


@pytest.mark.parametrize("size", [1000, 65536])
@pytest.mark.parametrize("coding", CODINGS[1:])
@pytest.mark.parametrize("framing", FRAMINGS)
def test_blocks_are_of_decoded_bytes(
    client: Client, server: FaultServer, framing: Any, coding: str, size: int
) -> None:
    """That holds in every coding."""
    response = opened(
        client, server, coded_stream([BODY], framing=framing, coding=coding, content_type=PLAIN)
    )
    blocks = list(response.iter_content(size))

    assert b"".join(blocks) == BODY
    assert max(map(len, blocks)) <= size


@pytest.mark.parametrize(
    "rest",
    [iter_bytes, lambda response: [response.content], lambda response: response.iter_content(None)],
    ids=["iter_bytes", "content", "iter_content"],
)
@pytest.mark.parametrize("size", [512, 20000])
@pytest.mark.parametrize("framing", FRAMINGS)
def test_the_next_loop_goes_on(
    client: Client, server: FaultServer, framing: Any, size: int, rest: Any
) -> None:
    """Code looks at the head of a file, and then reads the rest.

    With requests that works only for a body with a length.
    """
    response = opened(client, server, respond(BODY, framing=framing))
    first = next(response.iter_content(size))
    second = next(response.iter_content(size))

    assert len(first) == len(second) == size
    assert first + second + b"".join(rest(response)) == BODY
    assert client.adapter.stats().in_flight == 0


def test_the_next_loop_goes_on_in_the_middle_of_its_blocks(
    client: Client, server: FaultServer
) -> None:
    """Bytes read for a block that nobody took are given back, at the end of the body too."""
    response = opened(client, server, respond(b"0123456789", framing="length"))
    seen = [next(response.iter_content(3)) for _ in range(3)]

    assert [*seen, *response.iter_content(3)] == [b"012", b"345", b"678", b"9"]


NUMBERED = b"".join(b"line %d\r\n" % number for number in range(9000))
KEPT: dict[str, Callable[[requests.Response], Iterator[Any]]] = {
    "iter_content(10)": lambda response: response.iter_content(10),
    "iter_content(None)": lambda response: response.iter_content(None),
    "iter": iter,
    "iter_lines": lambda response: response.iter_lines(),
    "iter_lines, decoded": lambda response: response.iter_lines(decode_unicode=True),
    "iter_lines, delimited": lambda response: response.iter_lines(delimiter=b"\n"),
    "iter_lines, decoded and delimited": lambda response: response.iter_lines(
        decode_unicode=True, delimiter="\n"
    ),
}


def without_ends(pieces: list[Any]) -> bytes:
    """Return the bytes of the pieces without line ends, since loops over lines give none."""
    found = (piece.encode() if isinstance(piece, str) else piece for piece in pieces)
    return b"".join(found).translate(None, b"\r\n")


@pytest.mark.parametrize(
    "sent", [(b"1\n2\n3", PLAIN), (NUMBERED, EVENT_STREAM)], ids=["short", "events"]
)
@pytest.mark.parametrize("loop_of", KEPT.values(), ids=list(KEPT))
@pytest.mark.parametrize("framing", FRAMINGS)
def test_what_a_loop_that_is_kept_has_not_yielded_is_the_contents(
    client: Client, server: FaultServer, framing: Any, loop_of: Any, sent: tuple[bytes, str]
) -> None:
    """Code that looks at the head first keeps its iterator, since it has a name for it."""
    body, kind = sent
    response = opened(
        client, server, respond(body, framing=framing, headers={"Content-Type": kind})
    )
    response.encoding = "utf-8"
    loop = loop_of(response)
    head = next(loop)
    rest = response.content

    assert without_ends([head, rest]) == without_ends([body])
    assert list(loop) == []
    assert response.content == rest
    assert client.adapter.stats().in_flight == 0


@pytest.mark.parametrize("name", KEPT)
def test_loops_that_are_kept_take_turns(client: Client, server: FaultServer, name: str) -> None:
    """Each goes on where the others have stopped, to the end."""
    body = NUMBERED[:40000]
    response = opened(client, server, respond(body, headers={"Content-Type": PLAIN}))
    response.encoding = "utf-8"
    loops = [KEPT[name](response), *(loop_of(response) for loop_of in KEPT.values())]
    turns = itertools.zip_longest(*loops, fillvalue=b"")

    assert without_ends([piece for turn in turns for piece in turn]) == without_ends([body])
    assert client.adapter.stats().in_flight == 0


@pytest.mark.parametrize("size", [2, 10, 100])
def test_a_body_that_one_block_holds_leaves_nothing(server: FaultServer, size: int) -> None:
    """A loop that was not told of the end has not consumed the body, and raises no error."""
    with both(server, respond(b"0123456789", headers={"Content-Type": PLAIN})) as pair:
        for response in pair:
            head = next(loop := response.iter_content(size))

            assert head + response.content == b"0123456789"
            assert next(loop, None) is None


@pytest.mark.parametrize("body", [BODY[:100], BODY], ids=["short", "long"])
def test_a_stream_and_a_loop_take_turns(client: Client, server: FaultServer, body: bytes) -> None:
    """They do so whether or not the whole body has come when the loop yields its first block."""
    response = opened(client, server, respond(body, framing="chunked", chunks=[900, 7, 13000]))
    loop = response.iter_content(10)
    seen = [next(loop)]
    with iter_bytes(response) as pieces:
        for piece in pieces:
            seen += [piece, next(loop, b"")]

    assert b"".join(seen) == body


def test_closing_a_stream_drops_what_a_loop_holds(client: Client, server: FaultServer) -> None:
    """Closing ends the response for every reader."""
    response = opened(client, server, respond(b"0123456789"))
    pieces, loop = iter_bytes(response), response.iter_content(3)
    assert next(loop) == b"012"
    pieces.close()

    assert list(pieces) == list(loop) == []
    assert client.adapter.stats().in_flight == 0


def test_blocks_keep_their_size_in_the_middle_of_a_chunk(
    client: Client, server: FaultServer
) -> None:
    """Bytes that were given back are not cut at the end of a chunk."""
    response = opened(client, server, respond(BODY, framing="chunked", chunks=[13000]))
    loop, blocks = response.iter_content(10), response.iter_content(4096)

    assert [len(next(loop)), len(next(blocks)), len(next(loop)), len(next(blocks))] == [
        10,
        4096,
        10,
        4096,
    ]
    response.close()


def test_a_line_end_that_was_cut_in_two_is_one_for_the_next_loop(
    client: Client, server: FaultServer
) -> None:
    """The CR has ended a line already."""
    for second in (KEPT["iter_lines"], KEPT["iter_content(10)"], KEPT["iter_content(None)"]):
        go_on = threading.Event()
        response = opened(client, server, stream([b"a\r", go_on, b"\nb\n\nc"], content_type=PLAIN))
        first = response.iter_lines()
        assert next(first) == b"a"
        go_on.set()

        assert next(second(response)).startswith(b"b")
        response.close()


def test_a_line_end_that_was_cut_in_two_may_come_late(client: Client, server: FaultServer) -> None:
    """The second half may come after a silence."""
    go_on = threading.Event()
    response = opened(client, server, stream([b"a\r", go_on, b"\nb"], content_type=PLAIN))
    assert next(response.iter_lines()) == b"a"
    with iter_bytes(response, heartbeat=0.02) as pieces:
        beat = next(pieces)
        go_on.set()
        rest = [piece for piece in pieces if piece is not HEARTBEAT]

    assert beat is HEARTBEAT
    assert rest == [b"b"]


def test_closing_the_response_drops_what_its_loops_hold(
    client: Client, server: FaultServer
) -> None:
    """No further block comes in requests, either."""
    for framing in FRAMINGS:
        for loop_of in KEPT.values():
            response = opened(client, server, respond(NUMBERED[:1000], framing=framing))
            response.encoding = "utf-8"
            loop = loop_of(response)
            next(loop)
            response.close()

            assert list(loop) == []


def test_a_loop_that_was_closed_is_over(client: Client, server: FaultServer) -> None:
    """Frameworks close the iterator that they loop over."""
    loops: tuple[Callable[[requests.Response], Any], ...] = (
        lambda response: response.iter_content(3),
        lambda response: response.iter_content(None),
        lambda response: response.iter_content(None, decode_unicode=True),
        lambda response: response.iter_lines(),
    )
    for loop_of in loops:
        response = opened(
            client, server, stream([b"0123\n4567\n89"], content_type=PLAIN, ending="silence")
        )
        loop = loop_of(response)
        next(loop)
        loop.close()

        assert list(loop) == []
        assert client.adapter.stats().in_flight == 0
        assert server.wait_for_disconnects(server.accepted)


@pytest.mark.parametrize("framing", FRAMINGS)
def test_closing_the_response_ends_its_loop(
    client: Client, server: FaultServer, framing: Any
) -> None:
    """The loop ends without an error, as in requests."""
    response = opened(
        client, server, stream([b"a\n", 0.01, b"b\n"], framing=framing, ending="silence")
    )
    seen = []
    for line in response.iter_lines():
        seen.append(line)
        response.close()

    assert seen[0] == b"a"
    assert client.adapter.generation == 0
    assert client.adapter.stats().in_flight == 0


def test_closing_the_response_hides_no_cancel(client: Client, server: FaultServer) -> None:
    """The call was ended first."""
    response = opened(client, server, stream([b"a"], ending="silence"))
    loop = response.iter_content(None)
    next(loop)
    tap: Any = response.raw._original_response.reader
    tap.attempt.token.cancel()
    response.close()

    with pytest.raises(Exception, match="cancelled"):
        next(loop)


@pytest.mark.parametrize(
    "close", [lambda response: response.close(), lambda response: response.raw.close()]
)
@pytest.mark.parametrize("begins", [False, True])
@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_closed_response_is_empty_as_in_requests(
    server: FaultServer, framing: Any, begins: bool, close: Any
) -> None:
    """A look at ``error.response.text`` behind a with block is no false alarm."""
    with both(
        server, stream([b"a\n"], framing=framing, content_type=PLAIN, ending="silence")
    ) as pair:
        for response in pair:
            if begins:
                assert response.raw.read(1) == b"a"
            close(response)

            assert response.content == b""
            assert response.text == ""


def test_a_response_keeps_its_attempts_when_it_is_pickled(
    client: Client, server: FaultServer
) -> None:
    """Errors keep theirs, too."""
    response: Any = client.get()

    assert pickle.loads(pickle.dumps(response)).attempts == response.attempts
    assert len(response.attempts) == 1


@pytest.mark.parametrize("size", [-1, "7", 7.0, True])
def test_odd_sizes_are_requests_own_affair(server: FaultServer, size: Any) -> None:
    """The same result, or the same error."""
    with both(server, respond(b"0123456789")) as (theirs, ours):
        outcomes: list[Any] = []
        for response in (theirs, ours):
            try:
                outcomes.append((list(response.iter_content(size)), None))
            except Exception as error:  # noqa: BLE001  # any error counts
                outcomes.append(([], type(error)))
            response.close()

        assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "latin-1", "shift-jis"])
@pytest.mark.parametrize("size", [None, 1, 5])
def test_text_is_decoded_across_cuts(
    client: Client, server: FaultServer, size: int | None, encoding: str
) -> None:
    """A character may be cut anywhere."""
    text = "héllo" if encoding == "latin-1" else "日本\r\nテスト" * 20
    response = opened(client, server, respond(text.encode(encoding), framing="chunked", chunks=[3]))
    response.encoding = encoding

    pieces: list[Any] = list(response.iter_content(size, decode_unicode=True))
    assert "".join(pieces) == text


@pytest.mark.parametrize("size", [1, 4, 1000])
def test_blocks_of_an_event_stream_are_prompt_and_no_longer_than_asked_for(
    client: Client, server: FaultServer, size: int
) -> None:
    """Loops that look at the end of each byte miss an event boundary inside a longer block."""
    go_on = threading.Event()
    response = opened(
        client, server, stream([b"data: 1\n\nd", go_on, b"ata: 2\n\n"], content_type=EVENT_STREAM)
    )
    blocks = response.iter_content(size)
    seen = b""
    while not seen.endswith(b"\n\nd"):
        block = next(blocks)
        assert len(block) <= size
        seen += block
    go_on.set()

    assert all(len(block) <= size for block in blocks)


# -- iter_lines ------------------------------------------------------------------------------------

LINES = [
    b"",
    b"a",
    b"a\n",
    b"\n",
    b"\r\n",
    b"\r",
    b"a\r\nb\rc\nd",
    b"a\r\n\r\nb\r\rc\n\nd\n\r",
    b"\n\n\n",
    b"a\x0bb\x0cc\x1cd\x85e\xe2\x80\xa8f\n",
    b"\r\n\r\n",
]


def taken(take: Take, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the pieces that a function takes out of the input, which comes piece by piece."""
    unread = Unread()
    for piece in pieces:
        unread.add(piece, ends_chunk=False)
        yield from iter(lambda: take(unread, False), None)
    yield from iter(lambda: take(unread, True), None)


def cut(body: Any, size: int) -> list[Any]:
    """Pieces of so many bytes, or characters."""
    return [body[at : at + size] for at in range(0, len(body), size)]


@pytest.mark.parametrize("body", LINES, ids=repr)
def test_lines_do_not_depend_on_the_cuts(body: bytes) -> None:
    """A CRLF between two reads is one line end; requests makes two of it."""
    for size in range(1, len(body) + 1):
        assert list(taken(lines(None), cut(body, size))) == body.splitlines()
    text = body.decode("latin-1").replace("\x85", "")
    expected = [line.decode("latin-1") for line in text.encode("latin-1").splitlines()]
    for size in range(1, len(text) + 1):
        assert list(TextLineLoop(iter(cut(text, size)), None)) == expected


def test_a_line_may_span_the_end_of_a_chunk() -> None:
    """The end of the chunk is behind the cursor then, and a later block does not go back to it."""
    unread = Unread()
    unread.add(b"abcd", ends_chunk=True)
    taken = [unread.take_block(2, partial=False)]
    unread.add(b"e\nf\ng", ends_chunk=False)
    taken += [unread.take_line(), unread.take_line()]
    unread.add(b"hh", ends_chunk=True)

    assert [*taken, unread.take_chunk()] == [b"ab", b"cde", b"f", b"ghh"]


def test_a_block_behind_such_a_line_does_not_go_back() -> None:
    """Nor does one that is asked for in the middle of several lines."""
    unread = Unread()
    unread.add(b"abcd", ends_chunk=True)
    taken = [unread.take_block(2, partial=False)]
    unread.add(b"e\nf\ng\nh", ends_chunk=False)
    taken += [unread.take_line(), unread.take_block(9, partial=True)]

    assert taken == [b"ab", b"cde", b"f\ng\nh"]


def test_a_line_behind_a_block_is_what_the_block_has_left() -> None:
    """The lines that were found with the first one are not those that follow the block."""
    unread = Unread()
    unread.add(b"a\nb\nc\nd\n", ends_chunk=False)
    taken = [unread.take_line(), unread.take_block(3, partial=False)]

    assert [*taken, unread.take_line(), unread.take_line()] == [b"a", b"b\nc", b"", b"d"]


def test_lines_that_were_found_are_forgotten_with_their_bytes() -> None:
    """A close forgets what has arrived."""
    unread = Unread()
    unread.add(b"a\nb\nc\n", ends_chunk=False)
    unread.take_line()
    unread.clear()
    unread.add(b"new\n", ends_chunk=False)

    assert unread.take_line() == b"new"


@pytest.mark.parametrize("at", range(40))
def test_an_interrupt_in_a_burst_garbles_no_line(at: int) -> None:
    """A signal handler raises at any line of the code; the line that it meets may be lost."""
    whole = [b"%d" % number for number in range(5)]
    unread = Unread()
    unread.add(b"\n".join([*whole, b""]), ends_chunk=False)
    lines_run = itertools.count()

    def interrupt(frame: FrameType, event: str, _: object) -> Any:
        if event == "line" and next(lines_run) == at:
            raise InterruptedError
        return interrupt

    def trace(frame: FrameType, event: str, _: object) -> Any:
        return interrupt if frame.f_code.co_filename == _unread.__file__ else None

    taken: list[bytes] = []
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        while len(taken) < len(whole):
            with contextlib.suppress(InterruptedError):
                if (line := unread.take_line()) is None:
                    break
                taken.append(line)
    finally:
        sys.settrace(before)

    assert taken == [line for line in whole if line in taken]
    assert len(taken) >= len(whole) - 1
    assert unread.take_all() == b""


@pytest.mark.parametrize("delimiter", [b"\n", b"\r\n", b"--", b"aa", b"abab"])
def test_delimiters_do_not_depend_on_the_cuts(delimiter: bytes) -> None:
    """A delimiter may be cut anywhere; the rest behind the last one is a line if there is any."""
    for body in (
        b"",
        delimiter,
        b"x" + delimiter,
        delimiter * 3 + b"x",
        b"aaabababaa--\r\n-\n" * 3,
        b"x" * 10,
    ):
        expected = body.split(delimiter)
        expected = expected if expected[-1] else expected[:-1]
        for size in range(1, len(body) + 1):
            assert list(taken(lines(delimiter), cut(body, size))) == expected
            text = iter(cut(body.decode(), size))
            assert list(TextLineLoop(text, delimiter.decode())) == [
                each.decode() for each in expected
            ]


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize(
    "options", [{}, {"chunk_size": 4096}, {"decode_unicode": True}, {"delimiter": b"\r\n"}]
)
def test_lines_are_requests_lines(
    server: FaultServer, framing: Any, options: dict[str, Any]
) -> None:
    """The texts are those that requests reads right, in one piece."""
    body = "one\r\ntwo\r\n\r\nthree é\r\n".encode()
    with both(
        server,
        respond(body, framing=framing, headers={"Content-Type": "text/plain; charset=utf-8"}),
    ) as pair:
        theirs, ours = (list(response.iter_lines(**options)) for response in pair)

        assert ours == (theirs[:-1] if "delimiter" in options else theirs)


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "utf-16", "utf-32-le", None])
def test_decoded_lines_end_at_line_ends_only(
    client: Client, server: FaultServer, encoding: str | None
) -> None:
    """A paragraph separator in JSON is data.

    In UTF-16 a byte of a character may look like a line end.
    """
    lines = ["a\x85b", "", "ਊ c"] if encoding != "latin-1" else ["a\x85b", "", "c"]
    text = "\r\n".join(lines) + "\n"
    data = text.encode(encoding or "utf-8").removeprefix(
        codecs.BOM_UTF16 if encoding == "utf-16-le" else b"\xff\xff"
    )
    response = opened(client, server, respond(data, framing="chunked", chunks=[3]))
    response.encoding = encoding
    expected: list[Any] = lines if encoding else [line.encode() for line in lines]

    assert list(response.iter_lines(decode_unicode=True)) == expected


def test_a_stall_leaves_a_legacy_loop_as_idle(client: Client, server: FaultServer) -> None:
    """Everything before the stall has been delivered, but for half a line."""
    response = opened(client, server, stream([b"one\ntwo\nthr"], ending="silence"), idle=0.03)
    seen, _ = until_error(StreamIdle, response.iter_lines())

    assert seen == [b"one", b"two"]


def test_a_cut_line_is_not_delivered_as_a_line(client: Client, server: FaultServer) -> None:
    """Half a line is not the last one."""
    response = opened(client, server, stream([b"one\ntw"], ending="reset"))
    seen, _ = until_error(StreamBroken, response.iter_lines())

    assert seen == [b"one"]


@pytest.mark.parametrize("delimiter", [None, b"\r\n", b"\n"])
def test_a_long_line_is_searched_once(delimiter: bytes | None) -> None:
    """A new search at each read would be quadratic, and so would joining the pieces."""
    piece = b"x" * 1024
    pieces = [piece] * 4000
    line = taken(lines(delimiter), pieces)
    tracemalloc.start()
    try:
        assert len(next(line)) == len(piece) * len(pieces)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 2.5 * len(piece) * len(pieces)


# -- whole bodies ----------------------------------------------------------------------------------


@pytest.mark.parametrize("stream_", [False, True])
@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("framing", FRAMINGS)
def test_content_text_and_json(
    client: Client, server: FaultServer, framing: Any, coding: str, stream_: bool
) -> None:
    """They work for streamed and buffered responses, and a second time."""
    document = {"é": list(range(100))}
    server.script(
        coded_stream(
            [json.dumps(document).encode()],
            framing=framing,
            coding=coding,
            content_type="application/json",
        )
    )
    response = client.get(stream=stream_)

    assert response.json() == document
    assert json.loads(response.text) == json.loads(response.content) == document
    assert b"".join(response.iter_content(10)) == response.content
    assert list(response.iter_lines()) == [response.content]
    assert client.adapter.stats().in_flight == 0
    assert response.ok
    assert response.elapsed.total_seconds() >= 0


def test_a_second_loop_over_lines_goes_on_where_the_first_was_left(
    client: Client, server: FaultServer
) -> None:
    """``next(response.iter_lines())`` for a header line is common.

    In requests the next loop loses the bytes that the first had read ahead.
    """
    response = opened(
        client, server, respond(b"head\r\n1\n2\r\n\n3", headers={"Content-Type": "text/plain"})
    )
    assert next(response.iter_lines()) == b"head"

    assert next(response.iter_lines(decode_unicode=True)) == "1"
    assert list(response.iter_lines()) == [b"2", b"", b"3"]


def test_a_consumed_body_is_refused_as_by_requests(client: Client, server: FaultServer) -> None:
    """An empty body would hide the mistake."""
    response = opened(client, server, stream([b"a\n"]))
    assert list(response.iter_lines()) == [b"a"]

    with pytest.raises(requests.exceptions.StreamConsumedError):
        next(response.iter_content(1))
    with pytest.raises(RuntimeError, match="already consumed"):
        response.content  # noqa: B018  # the property reads


def test_a_response_without_a_status_has_no_content(client: Client, server: FaultServer) -> None:
    """Its content is None, as in requests, and not an empty body."""
    response = opened(client, server, respond(b""))
    response.status_code = 0

    content: bytes | None = response.content
    assert content is None
    response.close()


def test_raw_is_urllib3s(client: Client, server: FaultServer) -> None:
    """Its methods give undecoded bytes, unless asked for otherwise."""
    for framing in FRAMINGS:
        response = opened(
            client, server, coded_stream([BODY], framing=framing, coding="gzip", content_type=PLAIN)
        )
        assert response.raw.read(decode_content=True) == BODY
        response = opened(
            client, server, coded_stream([BODY], framing=framing, coding="gzip", content_type=PLAIN)
        )
        assert response.raw.read(2) == b"\x1f\x8b"
        response.close()
    assert client.adapter.stats().in_flight == 0


@pytest.mark.parametrize(
    "read", [lambda response: response.content, lambda response: b"".join(iter_bytes(response))]
)
def test_the_rest_is_read_where_raw_was_read_in_part(
    client: Client, server: FaultServer, read: Callable[[requests.Response], bytes]
) -> None:
    """urllib3 may have read the whole body, and holds bytes before and behind the decoder."""
    body = b"0123456789" * 100_000  # a few KB on the wire
    response = opened(client, server, respond(body, gzip=True))
    first = response.raw.read(4000, decode_content=True)

    assert first + read(response) == body


def test_a_with_block_closes_the_response(client: Client, server: FaultServer) -> None:
    """The block does the same in requests."""
    with opened(
        client, server, stream([b"a\n"], content_type=EVENT_STREAM, ending="silence")
    ) as response:
        assert next(response.iter_lines()) == b"a"

    assert server.wait_for_disconnects(1)
    assert client.adapter.stats().in_flight == 0
