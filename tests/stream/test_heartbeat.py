"""Two clocks, and a heartbeat that feeds neither."""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from clients import in_time
from coded_bodies import (
    CODINGS,
    FRAMINGS,
    READERS,
    coded_stream,
    events,
    opened,
    packed,
    until_error,
    verbatim,
)

from resilient_requests import HEARTBEAT, ServerSentEvent, StreamIdle, iter_bytes, iter_events
from resilient_requests.testing import FaultServer, stream

if TYPE_CHECKING:
    from clients import Client

EVENTS = events(0, 1, 2)
PINGS = [b": ping\n\n", b"event: ping\n\n", b"\n", b"id: 3\nretry: 7\n\n", b"\r\n\r\n"]


def paced(pieces: list[bytes], seconds: float) -> list[Any]:
    """The pieces, with a pause after each."""
    return [item for piece in pieces for item in (piece, seconds)]


# -- the two clocks --------------------------------------------------------------------------------


@pytest.mark.parametrize("ping", PINGS, ids=repr)
def test_pings_feed_the_bytes_clock_only(client: Client, server: FaultServer, ping: bytes) -> None:
    """The peer is there, and brings nothing: the error says which limit it was."""
    response = opened(client, server, stream([EVENTS[0], *paced([ping] * 100, 0.02)]))
    stream_ = iter_events(response, idle_timeout=0.5, event_timeout=0.15)
    next(stream_)
    begun = time.monotonic()
    with pytest.raises(StreamIdle) as caught:
        next(stream_)

    assert in_time(time.monotonic() - begun, 0.45) >= 0.14
    error = caught.value
    assert (error.clock, error.idle_timeout, error.events_received) == ("events", 0.15, 1)
    assert error.bytes_received > len(EVENTS[0])
    assert "event_timeout=" in str(error)
    assert client.adapter.generation == 0
    assert server.wait_for_disconnects(1)


@pytest.mark.parametrize("reader", READERS)
def test_pings_keep_a_stream_alive(client: Client, server: FaultServer, reader: str) -> None:
    """A healthy slow model sends comments only."""
    response = opened(
        client, server, stream([*paced([b": ping\n\n"] * 8, 0.03), *EVENTS]), idle=0.2
    )

    assert b"data: 2\n\n" in b"".join(READERS[reader](response))


def test_events_feed_both_clocks(client: Client, server: FaultServer) -> None:
    """Each within its limit, together far beyond it."""
    response = opened(client, server, stream(paced(EVENTS * 4, 0.03)))
    stream_ = iter_events(response, idle_timeout=0.2, event_timeout=0.2)

    assert sum(1 for _ in stream_) == 12


def test_silence_meets_the_shorter_limit(client: Client, server: FaultServer) -> None:
    """The error is that of the shorter clock."""
    cases: list[tuple[dict[str, Any], str]] = [
        ({"idle_timeout": 0.03, "event_timeout": 5.0}, "bytes"),
        ({"idle_timeout": 5.0, "event_timeout": 0.03}, "events"),
    ]
    for limits, clock in cases:
        with pytest.raises(StreamIdle) as caught:
            list(iter_events(opened(client, server, stream(EVENTS, ending="silence")), **limits))
        assert (caught.value.clock, caught.value.idle_timeout) == (clock, 0.03)


@pytest.mark.parametrize("coding", CODINGS[1:])
def test_coded_bytes_that_give_nothing_are_no_silence(
    client: Client, server: FaultServer, coding: str
) -> None:
    """A decoder may swallow a read: the peer has spoken, and there was no event."""
    body = packed([b"data: " + random.Random(1).randbytes(400).hex().encode() + b"\n\n"], coding)
    pieces = [body[at : at + 20] for at in range(0, 160, 20)]
    cut = stream(paced(pieces, 0.03), headers={"Content-Encoding": coding}, ending="silence")
    with pytest.raises(StreamIdle) as caught:
        list(iter_events(opened(client, server, cut), idle_timeout=0.15, event_timeout=0.18))
    assert caught.value.clock == "events"


@pytest.mark.parametrize(
    "limits", [{"idle_timeout": 0.05}, {"event_timeout": 0.05}, {"heartbeat": 0.05}]
)
def test_the_consumers_time_counts_for_no_limit(
    client: Client, server: FaultServer, limits: dict[str, Any]
) -> None:
    """The clocks stand still between an item and the next step."""
    stream_ = iter_events(
        opened(client, server, stream([b"".join(EVENTS[:2]), EVENTS[2]])), **limits
    )
    seen = []
    for event in stream_:
        seen.append(event)
        threading.Event().wait(0.07)

    assert [event.data for event in seen if event is not HEARTBEAT] == ["0", "1", "2"]
    assert len(seen) == 3


def test_the_calls_own_limit_is_the_default(client: Client, server: FaultServer) -> None:
    """The limit is the second figure of ``timeout=(c, r)``.

    A limit of the stream goes before it, and ends with the stream.
    """
    response = opened(client, server, stream(EVENTS, ending="silence"), idle=0.04)
    with pytest.raises(StreamIdle) as caught:
        list(iter_bytes(response))
    assert caught.value.idle_timeout == 0.04

    response = opened(client, server, stream(EVENTS, ending="silence"), idle=60)
    with pytest.raises(StreamIdle) as caught:
        list(iter_bytes(response, idle_timeout=0.04))
    assert caught.value.idle_timeout == 0.04


# -- the heartbeat ---------------------------------------------------------------------------------


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("framing", FRAMINGS)
def test_the_heart_beats_in_silence(
    client: Client, server: FaultServer, framing: Any, coding: str
) -> None:
    """One beat comes per interval of silence; then the event comes, intact."""
    go_on = threading.Event()
    items: list[Any] = [EVENTS[0], go_on, EVENTS[1]]
    stream_ = iter_events(
        opened(client, server, coded_stream(items, framing=framing, coding=coding)),
        heartbeat=0.03,
        idle_timeout=5.0,
    )
    assert next(stream_) == ServerSentEvent(data="0")
    begun = time.monotonic()
    assert [next(stream_) for _ in range(3)] == [HEARTBEAT] * 3
    assert in_time(time.monotonic() - begun, 0.4) >= 0.085
    go_on.set()
    rest = [item for item in stream_ if item is not HEARTBEAT]

    assert rest == [ServerSentEvent(data="1")]


def test_bytes_have_a_heartbeat_too(client: Client, server: FaultServer) -> None:
    """It beats in the middle of a chunk as between chunks."""
    go_on = threading.Event()
    stream_ = iter_bytes(opened(client, server, stream([b"a", go_on, b"b"])), heartbeat=0.02)

    assert [next(stream_) for _ in range(3)] == [b"a", HEARTBEAT, HEARTBEAT]
    go_on.set()
    assert [item for item in stream_ if item is not HEARTBEAT] == [b"b"]


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_beat_amid_a_chunk_loses_nothing(client: Client, server: FaultServer, cut: int) -> None:
    """The beat comes between a size and its data, in the middle of either, or behind the data.

    A timeout there would poison a file object.
    """
    wire = b"9\r\ndata: 0\n\n\r\n0\r\n\r\n"
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    go_on = threading.Event()
    server.script(verbatim(head, wire[:cut], go_on, wire[cut:]))
    stream_ = iter_events(client.get(stream=True), heartbeat=0.01)
    seen = [next(stream_), next(stream_)]
    go_on.set()
    seen += list(stream_)

    assert [item for item in seen if item is not HEARTBEAT] == [ServerSentEvent(data="0")]
    assert HEARTBEAT in seen
    assert client.adapter.stats().idle == 1


@pytest.mark.parametrize("limits", [{"idle_timeout": 0.3}, {"event_timeout": 0.3}])
def test_the_heartbeat_feeds_no_clock(
    client: Client, server: FaultServer, limits: dict[str, Any]
) -> None:
    """A dead stream is found dead however often it was said that nothing came."""
    stream_ = iter_events(
        opened(client, server, stream(EVENTS[:1], ending="silence")), heartbeat=0.02, **limits
    )
    begun = time.monotonic()
    seen, _ = until_error(StreamIdle, stream_)

    assert in_time(time.monotonic() - begun, 5.0) >= 0.29
    assert seen.count(HEARTBEAT) >= 2


def test_the_heart_beats_among_pings(client: Client, server: FaultServer) -> None:
    """No item is delivered while comments flow.

    Without beats a view could not notice that its browser has left.
    """
    stream_ = iter_events(
        opened(client, server, stream(paced([b": ping\n\n"] * 200, 0.002))), heartbeat=0.02
    )

    assert [next(stream_) for _ in range(3)] == [HEARTBEAT] * 3
    stream_.close()


def test_a_flood_does_not_stop_the_heart(client: Client, server: FaultServer) -> None:
    """The beat that is due comes between two reads, even if there is always something to read."""
    flood = b": ping\n\n" * 10_000
    stream_ = iter_events(opened(client, server, stream([flood + EVENTS[0]])), heartbeat=5.0)
    stream_._reader.clocks.waited(6.0)

    assert next(stream_) is HEARTBEAT
    assert [item for item in stream_ if item is not HEARTBEAT] == [ServerSentEvent(data="0")]


def test_the_heart_beats_from_the_start(client: Client, server: FaultServer) -> None:
    """The longest wait is that for the first event."""
    stream_ = iter_events(opened(client, server, stream([], ending="silence")), heartbeat=0.01)

    assert [next(stream_) for _ in range(3)] == [HEARTBEAT] * 3
    stream_.close()


def test_without_a_heartbeat_there_is_none(client: Client, server: FaultServer) -> None:
    """Loops that know nothing of it get events only."""
    items = list(
        iter_events(opened(client, server, stream(paced(EVENTS, 0.02))), event_timeout=5.0)
    )

    assert items == [ServerSentEvent(data=str(number)) for number in range(3)]


def test_the_marker_says_what_it_is() -> None:
    """Logs and tracebacks show it. The marker is true, and one object."""
    assert repr(HEARTBEAT) == "HEARTBEAT"
    assert bool(HEARTBEAT)
    assert type(HEARTBEAT)(HEARTBEAT.value) is HEARTBEAT
