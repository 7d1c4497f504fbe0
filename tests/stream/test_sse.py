"""Bytes in, server-sent events out: the rules of the WHATWG, for any cuts between reads."""

from __future__ import annotations

import itertools
import json
import time
import tracemalloc
from typing import Any

import pytest
from coded_bodies import until_error
from sse_vectors import Vector, cut, decoded, vectors

from resilient_requests import ServerSentEvent
from resilient_requests.stream.events._sse import EventTooLarge, SSEDecoder

MIB = 1 << 20
PIECE = 1024


def every_vector(test: Any) -> Any:
    """Run a test with each vector."""
    return pytest.mark.parametrize("vector", vectors(), ids=lambda vector: vector.name)(test)


def test_no_vector_is_missing() -> None:
    """A file that was emptied would pass."""
    assert len(vectors()) == 62


@every_vector
def test_a_vector_as_it_arrived(vector: Vector) -> None:
    """The events and the state at the end are right."""
    decoder = SSEDecoder()
    assert decoded(decoder, vector.pieces) == vector.events

    assert decoder.last_event_id == vector.end["last_event_id"]
    assert decoder.retry == vector.end["retry_ms"]
    assert decoder.is_pending or not vector.end["pending_discarded"]


@every_vector
def test_a_vector_cut_at_every_size(vector: Vector) -> None:
    """No cut changes anything, from single bytes to one piece."""
    data = vector.data
    sizes = (
        range(1, len(data) + 1)
        if len(data) < 600
        else [1, 2, 3, 5, 7, 64, 100, 1000, 4096, len(data)]
    )
    for size in sizes:
        decoder = SSEDecoder()
        assert decoded(decoder, cut(data, size)) == vector.events, size
        assert decoder.last_event_id == vector.end["last_event_id"]
        assert decoder.retry == vector.end["retry_ms"]


@every_vector
def test_a_vector_cut_at_every_place(vector: Vector) -> None:
    """The cut makes two pieces, with an empty one between them."""
    data = vector.data
    for at in range(len(data) + 1) if len(data) < 2000 else range(0, len(data), 97):
        assert decoded(SSEDecoder(), [data[:at], b"", data[at:]]) == vector.events, at


@every_vector
def test_a_vector_flushed(vector: Vector) -> None:
    """A flush adds at most one event, and only if a block was unfinished.

    Afterwards nothing is pending.
    """
    whole = vector.data
    for pieces in (vector.pieces, [whole], cut(whole, 1)):
        decoder = SSEDecoder()
        decoded(decoder, pieces)
        was_pending = decoder.is_pending
        flushed = decoder.flush()
        assert len(flushed) <= int(was_pending)
        assert not decoder.is_pending
        assert decoder.flush() == []
        if not vector.end["pending_discarded"]:
            assert flushed == []


@every_vector
def test_a_vector_in_the_middle_of_plain_events(vector: Vector) -> None:
    """Events decoded in one go and events decoded line by line meet without a seam."""
    plain = b"data: plain\n\n"
    unbombed = vector.data.removeprefix(b"\xef\xbb\xbf")
    expected = decoded(SSEDecoder(), [unbombed])
    for before, behind in ((0, 1), (1, 0), (2, 2)):
        decoder = SSEDecoder()
        seen = decoded(decoder, [plain * before + unbombed + b"\n\n" + plain * behind])
        assert seen[:before] == [("message", "plain", "")] * before
        assert seen[before : before + len(expected)] == expected
        if behind:
            assert [event[:2] for event in seen[-behind:]] == [("message", "plain")] * behind


# -- rules one by one ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "pending", "flushed"),
    [
        (b"", False, None),
        (b"data: a\n", True, "a"),
        (b"data: a", True, "a"),
        (b"data: a\r", True, "a"),
        (b"data", True, ""),
        (b"data:", True, ""),
        (b"event: ping\n", True, None),
        (b"id: 1", True, None),
        (b": comment", True, None),
        (b": comment\n", False, None),
        (b"retry: 5\n", False, None),
        (b"data: a\ndata: b", True, "a\nb"),
        (b"data: a\nda", True, "a"),
        (b"\xef\xbb\xbf", True, None),
    ],
)
def test_an_unfinished_block_is_flushed(data: bytes, pending: bool, flushed: str | None) -> None:
    """An unterminated last line counts as a line; a block without a data field gives nothing."""
    decoder = SSEDecoder()
    assert decoder.feed(data) == []
    assert decoder.is_pending is pending

    assert decoder.flush() == ([] if flushed is None else [ServerSentEvent(data=flushed)])
    assert not decoder.is_pending


def test_an_event_is_not_held_back_for_the_second_half_of_a_line_end() -> None:
    """A CR ends the line at once, and an LF behind it, in the next read, belongs to it."""
    decoder = SSEDecoder()
    assert decoder.feed(b"data: a\r\n\r") == [ServerSentEvent(data="a")]
    assert decoder.feed(b"\ndata: b\r\r") == [ServerSentEvent(data="b")]
    assert decoder.feed(b"") == []
    assert decoder.feed(b"\n") == []
    assert decoder.feed(b"\n\ndata: c\n\n") == [ServerSentEvent(data="c")]


def test_a_cr_in_an_event_that_comes_alone_ends_a_line() -> None:
    """But for it, the event has the form of most, which are read in one step."""
    (event,) = SSEDecoder().feed(b"data: a\rdata: b\n\n")

    assert event.data == "a\nb"


def test_ids_and_retry_persist_and_are_told() -> None:
    """The id until another comes, the reconnection time with its event."""
    decoder = SSEDecoder()
    events = decoder.feed(
        b"id: 1\nretry: 20\ndata: a\n\ndata: b\n\nid\ndata: c\n\nevent: x\ndata: d\n\n"
    )

    assert events == [
        ServerSentEvent(data="a", id="1", retry=20),
        ServerSentEvent(data="b", id="1"),
        ServerSentEvent(data="c"),
        ServerSentEvent("x", "d"),
    ]
    assert decoder.retry == 20


@pytest.mark.parametrize(
    "value", [b"", b"-1", b"1.5", b"1e3", b" 1", b"1 ", "٣".encode(), b"0x1", b"9" * 5000]
)
def test_a_retry_that_is_no_number_is_ignored(value: bytes) -> None:
    """ASCII digits only; a number that Python refuses to read is none either."""
    decoder = SSEDecoder()
    assert (
        decoder.feed(b"retry:" + (b" " + value if value else b"") + b"\ndata: a\n\n")[0].retry
        is None
    )
    assert decoder.retry is None


def test_the_error_field_is_data_where_it_was_asked_for() -> None:
    """Some servers report so; the standard drops it."""
    data = b'error: {"code":1}\n\ndata: x\n\n'

    assert SSEDecoder().feed(data) == [ServerSentEvent(data="x")]
    assert SSEDecoder(error_field=True).feed(data) == [
        ServerSentEvent("error", '{"code":1}'),
        ServerSentEvent(data="x"),
    ]


# -- the limit -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize(
    "block",
    [
        b"data: " + b"x" * 100,
        b"data: x\n" * 13,
        b"data:\n" * 20,
        b": " + b"c" * 100,
        b"event: " + b"e" * 100,
        b"id: " + b"i" * 100,
        b"unknown" * 20,
        b"retry: 1\n" * 12,
        b"\xef\xbb\xbf" + b"data: " + b"x" * 100,
    ],
    ids=lambda block: repr(block[:8]),
)
def test_a_block_has_a_limit(block: bytes, size: int) -> None:
    """The limit holds for any kind and in any cut; the events before it are delivered."""
    decoder = SSEDecoder(max_event_bytes=100)
    pieces = cut(b"data: before\n\n" + block + b"\n\n", size)
    fed, error = until_error(EventTooLarge, map(decoder.feed, pieces))

    assert [*itertools.chain(*fed), *error.events] == [ServerSentEvent(data="before")]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_many_small_events_are_within_the_limit(size: int) -> None:
    """It is one event's, not a read's."""
    decoder = SSEDecoder(max_event_bytes=20)

    assert len(decoded(decoder, cut(b"data: 0123456789\n\n" * 50, size))) == 50
    assert len(decoded(decoder, cut(b": 0123456789\n\n" * 50, size))) == 0


@pytest.mark.parametrize("payload", [1, 50, 94, 93, 95])
def test_the_limit_does_not_depend_on_the_cuts(payload: int) -> None:
    """That holds at its boundary, too."""
    data = b"data: " + b"x" * payload + b"\n\n"
    outcomes = set()
    for size in range(1, len(data) + 1):
        try:
            outcomes.add(len(decoded(SSEDecoder(max_event_bytes=100), cut(data, size))))
        except EventTooLarge:
            outcomes.add(-1)

    assert len(outcomes) == 1


# -- linear ----------------------------------------------------------------------------------------


def seconds(decoder: Any, count: int, end: bytes) -> float:
    """The CPU time in which a line comes whole that arrives in so many pieces."""
    piece = b"x" * PIECE
    begun = time.process_time()
    decoder.feed(b"data: ")
    for _ in range(count):
        assert not decoder.feed(piece)
    (event,) = decoder.feed(end)
    assert len(event.data) >= count * PIECE
    return time.process_time() - begun


@pytest.mark.parametrize("end", [b"\n\n", b"\r\r"])
def test_a_long_line_takes_linear_time(end: bytes) -> None:
    """Ten times the line, some ten times the time; quadratic it would be a hundred."""
    most = 64 * MIB
    short = min(seconds(SSEDecoder(most), 2000, end) for _ in range(3))

    assert min(seconds(SSEDecoder(most), 20000, end) for _ in range(3)) < 40 * max(short, 0.002)


def test_a_long_line_is_held_little_more_than_once() -> None:
    """It is held once while it comes. Its text is beside it only for a moment, when it is whole."""
    decoder = SSEDecoder(64 * MIB)
    tracemalloc.start()
    try:
        seconds(decoder, 8 * 1024, b"\n\n")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 3 * 8 * MIB


# -- json ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        "{}",
        ' {"a": [1, 2.5, null, true, "\\u00e9"]} ',
        "[]",
        "1",
        '"x"',
        "null",
        "\n{}\t",
        "NaN",
        "-0",
        "1e5",
    ],
)
def test_json_is_what_json_loads_gives(data: str) -> None:
    """The same values and types."""
    assert repr(ServerSentEvent(data=data).json()) == repr(json.loads(data))


@pytest.mark.parametrize(
    "data", ["", " ", "[DONE]", "{", '{"a": 1} x', "{}{}", "nul", "\ufeff{}", "'a'"]
)
def test_bad_json_fails_as_json_loads_does(data: str) -> None:
    """The error has its position."""
    with pytest.raises(json.JSONDecodeError) as expected:
        json.loads(data)
    with pytest.raises(json.JSONDecodeError) as caught:
        ServerSentEvent(data=data).json()

    assert str(caught.value) == str(expected.value)


def test_an_event_is_a_value() -> None:
    """Immutable, equal to its like, with the standard's defaults."""
    event = ServerSentEvent(data="a")

    assert event == ServerSentEvent("message", "a", "", None)
    assert hash(event) == hash(ServerSentEvent(data="a"))
    with pytest.raises(AttributeError):
        event.data = "b"  # type: ignore[misc]
