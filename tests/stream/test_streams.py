"""Streams are prompt in every framing and coding, on every kind of connection and response."""

from __future__ import annotations

import contextlib
import io
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import requests
import requests_mock
import responses
from alarms import ringing
from clients import Client, Running, in_time
from coded_bodies import (
    BROTLI,
    CODINGS,
    EVENT_STREAM,
    FRAMINGS,
    READERS,
    coded_stream,
    events,
    opened,
    verbatim,
)
from proxies import HTTPProxy

from resilient_requests import (
    HEARTBEAT,
    ServerSentEvent,
    StreamBroken,
    StreamIdle,
    StreamProtocolError,
    iter_bytes,
    iter_events,
)
from resilient_requests.testing import FaultServer, respond, sse, stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EVENTS = events(0, 1, 2)


@contextlib.contextmanager
def plain_session(server: FaultServer) -> Iterator[requests.Session]:
    """A session without our adapter."""
    with requests.Session() as session:
        session.verify = server.ca_path or True
        yield session


def follow(pieces: Iterator[bytes], arrived: list[threading.Event]) -> bytes:
    """Read on, and let the server send the next event as soon as one has come whole."""
    data = b""
    for piece in pieces:
        data += piece
        for mark in arrived[: data.count(b"\n\n")]:
            mark.set()
    return data


# -- promptness ------------------------------------------------------------------------------------


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("framing", FRAMINGS)
def test_each_event_comes_when_it_was_sent(
    client: Client, server: FaultServer, framing: Any, coding: str, reader: str
) -> None:
    """The server sends an event only when the reader has the one before.

    If one were withheld, the next would never come.
    """
    arrived = [threading.Event() for _ in EVENTS]
    items = [item for pair in zip(EVENTS, arrived, strict=True) for item in pair]
    response = opened(client, server, coded_stream(items, framing=framing, coding=coding))

    assert follow(READERS[reader](response), arrived) == b"".join(EVENTS)
    assert client.adapter.stats().in_flight == 0


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("framing", FRAMINGS)
def test_responses_of_another_adapter_are_prompt_too(
    server: FaultServer, framing: Any, coding: str
) -> None:
    """The prompt reader works on the socket of any adapter."""
    arrived = [threading.Event() for _ in EVENTS]
    server.script(
        coded_stream(
            [i for p in zip(EVENTS, arrived, strict=True) for i in p],
            framing=framing,
            coding=coding,
        )
    )
    with plain_session(server) as session:
        response = session.get(server.url, stream=True, timeout=5)

        assert follow(READERS["iter_events"](response), arrived) == b"".join(EVENTS)
        assert session.get(server.url).content == b"ok"
    assert server.accepted == (2 if framing == "close" else 1)


@pytest.mark.parametrize("tls", [False, True], ids=["forwarded", "through CONNECT"])
@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("framing", FRAMINGS)
def test_streams_through_a_proxy_are_prompt(
    fault_server_factory: Callable[..., FaultServer], framing: Any, reader: str, tls: bool
) -> None:
    """A proxy's answer to CONNECT goes through the same tap, and is no part of the body."""
    server = fault_server_factory(tls=tls)
    arrived = [threading.Event() for _ in EVENTS]
    items = [item for pair in zip(EVENTS, arrived, strict=True) for item in pair]
    with HTTPProxy() as proxy, Client(server) as client:
        client.session.proxies = {"http": proxy.url, "https": proxy.url}
        response = opened(client, server, coded_stream(items, framing=framing))

        assert follow(READERS[reader](response), arrived) == b"".join(EVENTS)
        assert proxy.connects == int(tls)


@pytest.mark.parametrize("reader", ["iter_events", "iter_lines"])
def test_events_that_come_one_byte_at_a_time_are_whole(
    client: Client, server: FaultServer, reader: str
) -> None:
    """Every cut there can be between reads, in the framing as in the coding."""
    server.script(
        respond(
            b"".join(EVENTS),
            headers={"Content-Type": EVENT_STREAM},
            framing="chunked",
            gzip=True,
            drip=0.0001,
        )
    )

    assert b"".join(READERS[reader](client.get(stream=True))) == b"".join(EVENTS)


@pytest.mark.parametrize("framing", ["chunked", "length"])
@pytest.mark.parametrize("reader", READERS)
def test_a_stream_read_to_its_end_leaves_its_connection_to_the_next(
    client: Client, server: FaultServer, framing: Any, reader: str
) -> None:
    """The end of the framing is enough: nobody has to read past it."""
    for _ in range(3):
        assert b"".join(
            READERS[reader](opened(client, server, coded_stream(EVENTS, framing=framing)))
        )

    assert server.accepted == 1
    assert client.adapter.stats().idle == 1


def test_the_last_piece_ends_the_body(client: Client, server: FaultServer) -> None:
    """A reader that stops at the last event, such as a [DONE], has read the whole body.

    The connection is then free.
    """
    server.script(respond(b"".join(EVENTS), headers={"Content-Type": EVENT_STREAM}))
    with iter_events(client.get(stream=True)) as stream_:
        assert [next(stream_), next(stream_), next(stream_)][-1] == ServerSentEvent(data="2")
    client.get()

    assert server.accepted == 1


def test_bytes_behind_the_body_close_the_connection(client: Client, server: FaultServer) -> None:
    """They would be read as the next response."""
    for body in (b"5\r\nhello\r\n0\r\n\r\nHTTP/1.1 500", b"5\r\nhello\r\n0\r\n\r\nx"):
        server.script(verbatim(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body))
        assert b"".join(client.get(stream=True).iter_content(None)) == b"hello"

    assert client.adapter.stats().idle == 0


@pytest.mark.parametrize("size", [100, 1 << 18])
@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_large_body_arrives_unchanged(
    client: Client, server: FaultServer, framing: Any, coding: str, size: int
) -> None:
    """Bursts grow the read's size, and a piece of coded bytes gives many of content."""
    body = bytes(range(256)) * (size // 256) + b"end"
    response = opened(
        client, server, coded_stream([body], framing=framing, coding=coding, content_type="a/b")
    )

    assert b"".join(iter_bytes(response)) == body


# -- the consumer's time ---------------------------------------------------------------------------


@pytest.mark.parametrize("reader", [*READERS, "by clocks"])
def test_the_consumers_time_counts_for_no_clock(
    client: Client, server: FaultServer, reader: str
) -> None:
    """Events sent during a pause of any length are delivered."""
    sent = threading.Event()
    response = opened(client, server, stream([EVENTS[0], sent, *EVENTS[1:]]), idle=0.05)
    if reader == "by clocks":
        limits = iter_events(response, event_timeout=0.05, heartbeat=0.05)
        pieces: Any = (
            f"data: {event.data}\n\n".encode() for event in limits if event is not HEARTBEAT
        )
    else:
        pieces = READERS[reader](response)
    data = next(pieces)
    sent.set()
    threading.Event().wait(0.1)

    assert data + b"".join(pieces) == b"".join(EVENTS)


# -- responses without a socket of ours ------------------------------------------------------------


@responses.activate
def test_a_mocked_response_can_be_read() -> None:
    """`responses` replaces HTTPAdapter.send, and has a file for a socket."""
    responses.add("GET", "http://host/", body=b"".join(EVENTS), content_type=EVENT_STREAM)
    for reader in READERS.values():
        with Client("http://host/") as client:
            assert b"".join(reader(client.get(stream=True))) == b"".join(EVENTS)
        assert b"".join(reader(requests.get("http://host/", stream=True, timeout=1))) == b"".join(
            EVENTS
        )


def test_a_response_of_requests_mock_can_be_read() -> None:
    """It goes past our adapter."""
    with requests_mock.Mocker() as mocker, Client("http://host/") as client:
        mocker.get("http://host/", content=b"".join(EVENTS), headers={"Content-Type": EVENT_STREAM})
        for reader in READERS.values():
            assert b"".join(reader(client.get(stream=True))) == b"".join(EVENTS)


def test_a_response_made_by_hand_can_be_read() -> None:
    """An adapter for files, or a test, may put any file there."""
    response = requests.Response()
    response.raw = io.BytesIO(b"".join(EVENTS))
    response.headers["Content-Type"] = EVENT_STREAM

    assert [event.data for event in iter_events(response)] == ["0", "1", "2"]


@pytest.mark.parametrize("framing", FRAMINGS)
def test_another_adapters_stall_is_idle(server: FaultServer, framing: Any) -> None:
    """Its own read timeout is the limit, and plain requests' retryable error does not leave."""
    server.script(stream(EVENTS[:1], framing=framing, ending="silence"))
    with plain_session(server) as session:
        events_ = iter_events(session.get(server.url, stream=True, timeout=(5, 0.2)))
        assert next(events_) == ServerSentEvent(data="0")
        with pytest.raises(StreamIdle) as caught:
            next(events_)

        assert caught.value.idle_timeout == 0.2
        assert not isinstance(caught.value, (requests.ConnectionError, requests.Timeout))
        assert server.wait_for_disconnects(1)


def test_another_adapters_silent_body_is_idle_from_its_start(server: FaultServer) -> None:
    """Nothing is read, and nothing waits, before the first step of the stream."""
    server.script(stream([], ending="silence"))
    with plain_session(server) as session:
        response = session.get(server.url, stream=True, timeout=(5, 5))
        stream_ = iter_bytes(response, idle_timeout=0.05)
        with pytest.raises(StreamIdle) as caught:
            next(stream_)

    in_time(caught.value.elapsed, 1)
    assert (caught.value.idle_timeout, caught.value.bytes_received) == (0.05, 0)


@pytest.mark.parametrize("how", ["close", "cancel"])
def test_another_adapters_stream_closes_its_connection(server: FaultServer, how: str) -> None:
    """It closes at once, while the stream and the response are still referred to."""
    server.script(stream(EVENTS[:1], ending="silence"))
    with plain_session(server) as session:
        response = session.get(server.url, stream=True, timeout=5)
        stream_ = iter_events(response)
        next(stream_)
        getattr(stream_, how)()

        assert server.wait_for_disconnects(1)
        stream_.close()


def test_a_stream_at_its_end_holds_no_socket_of_another_adapter(server: FaultServer) -> None:
    """Closing the connection then closes its socket, even if the stream is referred to."""
    server.script(stream(EVENTS))
    with plain_session(server) as session:
        stream_ = iter_events(session.get(server.url, stream=True, timeout=5))
        assert len(list(stream_)) == 3
        adapter: Any = session.get_adapter(server.url)
        for pool in adapter.poolmanager.pools._container.values():
            pool.close()

        assert server.wait_for_disconnects(1)


def test_a_cut_of_another_adapters_body_is_broken(server: FaultServer) -> None:
    """A reset before the first read, too."""
    server.script(stream([], ending="reset"))
    with plain_session(server) as session:
        response = session.get(server.url, stream=True, timeout=5)
        assert server.wait_for_disconnects(1)
        stream_ = iter_bytes(response)

        with pytest.raises(StreamBroken):
            next(stream_)


@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_body_begun_through_raw_goes_on(server: FaultServer, framing: Any) -> None:
    """urllib3 finishes a body that it has begun to read.

    We do not take up a framing in its middle.
    """
    with plain_session(server) as plain, Client(server) as client:
        for session in (plain, client.session):
            server.script(respond(b"0123456789" * 2, framing=framing, chunks=[10]))
            response = session.get(server.url, stream=True, timeout=5)
            begun = response.raw.stream(5)

            assert next(begun) + b"".join(iter_bytes(response)) == b"0123456789" * 2


# -- unreadable answers ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", [EVENT_STREAM, f"{EVENT_STREAM};", "Text/Event-Stream; charset=latin-1"]
)
def test_event_streams_are_told_by_their_type(
    client: Client, server: FaultServer, kind: str
) -> None:
    """Parameters do not matter: the charset is always UTF-8, for any declaration."""
    response = opened(client, server, stream([b"data: \xc3\xa9\n\n"], content_type=kind))

    assert [event.data for event in iter_events(response)] == ["é"]


@pytest.mark.parametrize("kind", ["text/html", "x bogus", "text/x-bogus", "application/json", ""])
def test_anything_else_is_no_event_stream(client: Client, server: FaultServer, kind: str) -> None:
    """The error shows the type and the beginning of the body.

    The connection is not left half read.
    """
    response = opened(client, server, stream([b"<html>sorry"], content_type=kind, ending="silence"))
    with pytest.raises(StreamProtocolError, match="<html>sorry") as caught:
        iter_events(response)

    assert str(caught.value).startswith(
        f"Content-Type is {kind!r}, not " if kind else "no Content-Type, so not "
    )
    assert caught.value.bytes_received == 11
    assert server.wait_for_disconnects(1)
    assert client.adapter.stats().in_flight == 0


def read(response: requests.Response) -> None:
    """Read as requests does."""
    assert response.content


def read_bytes(response: requests.Response) -> None:
    """Read as a stream."""
    assert list(iter_bytes(response))


def close_early(response: requests.Response) -> None:
    """Stop in the middle."""
    with iter_events(response) as stream_:
        next(stream_)


@pytest.mark.parametrize("use", [read, read_bytes, close_early, requests.Response.close])
@pytest.mark.parametrize("iterate", [iter_events, iter_bytes])
def test_a_used_response_is_refused(
    client: Client, server: FaultServer, iterate: Any, use: Any
) -> None:
    """It would look like an empty body otherwise."""
    response = opened(client, server, stream([b"data: x\n\n" * 20000, *EVENTS]))
    use(response)

    with pytest.raises(ValueError, match="read or closed already"):
        iterate(response)


def test_a_response_without_a_body_to_read_is_refused() -> None:
    """Tests make such responses."""
    with pytest.raises(ValueError, match="read or closed already"):
        iter_bytes(requests.Response())


def test_a_response_that_was_not_streamed_is_refused(client: Client, server: FaultServer) -> None:
    """Its content is there; nothing streams any more."""
    server.script(sse("a"))
    response = client.get()

    with pytest.raises(ValueError, match=r"response\.content"):
        iter_events(response)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"idle_timeout": 0}, ValueError),
        ({"idle_timeout": -1}, ValueError),
        ({"idle_timeout": "1"}, TypeError),
        ({"event_timeout": 0}, ValueError),
        ({"event_timeout": True}, TypeError),
        ({"heartbeat": 0}, ValueError),
        ({"max_event_bytes": 0}, ValueError),
        ({"max_event_bytes": 1.5}, TypeError),
    ],
)
def test_bad_arguments_are_named(
    client: Client, server: FaultServer, options: dict[str, Any], error: type[Exception]
) -> None:
    """The error comes before any read, so the response can still be used."""
    response = opened(client, server, stream(EVENTS))
    with pytest.raises(error, match=next(iter(options))):
        iter_events(response, **options)

    assert response.content == b"".join(EVENTS)


@pytest.mark.parametrize("iterate", [iter_events, iter_bytes])
def test_something_else_is_no_response(iterate: Any) -> None:
    """A common slip: the response's content, or its raw."""
    with pytest.raises(TypeError, match="response"):
        iterate(b"data: x\n\n")


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
def test_a_response_without_a_body_is_empty(
    client: Client, server: FaultServer, method: str, status: int, framing: Any
) -> None:
    """It is empty for any announcement of its head, and without a wait."""
    headers = {"Content-Type": EVENT_STREAM, "Content-Encoding": "gzip"}
    if status != 200:
        headers |= {
            "chunked": {"Transfer-Encoding": "chunked"},
            "length": {"Content-Length": "9"},
        }.get(framing, {})
    for reader in READERS.values():
        server.script(respond(b"not sent", status=status, headers=headers, framing=framing))
        response = client.session.request(method, server.url, stream=True)
        assert list(reader(response)) == []

    assert server.accepted == (5 if framing == "close" else 1)


def test_brotli_is_tested_where_it_can_be() -> None:
    """The newest dependencies have it; without it nothing is advertised."""
    with requests.Session() as session:
        assert ("br" in str(session.headers["Accept-Encoding"])) == (BROTLI is not None)


# -- stalls ------------------------------------------------------------------------------------


@pytest.mark.parametrize("clocks", [{}, {"heartbeat": 60.0}, {"event_timeout": 60.0}])
@pytest.mark.parametrize("framing", FRAMINGS)
def test_silence_is_told_in_every_thread(
    server: FaultServer, framing: Any, clocks: dict[str, Any]
) -> None:
    """That holds for each of the clocks."""
    with Client(server) as client:
        response = opened(
            client, server, stream(EVENTS, framing=framing, ending="silence"), idle=0.1
        )
        reading = Running(lambda: list(iter_events(response, **clocks)))
        reading.seconds_to_end()

        assert isinstance(reading.error, StreamIdle)
        assert reading.error.elapsed >= 0.1


@pytest.mark.parametrize(
    ("raised", "left"),
    [
        (TimeoutError("mine"), TimeoutError),  # the class of a socket's timeout
        (ConnectionResetError("mine"), ConnectionResetError),
        (StopIteration("mine"), RuntimeError),  # in a loop it would look like the end
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, Exception) else each.__name__,
)
@pytest.mark.parametrize(
    "read",
    [
        lambda response: list(iter_events(response)),
        lambda response: list(iter_events(response, heartbeat=60.0)),
        lambda response: list(response.iter_lines()),
        lambda response: list(response.iter_content(1)),
        lambda response: response.content,
    ],
    ids=["iter_events", "heartbeat", "iter_lines", "iter_content", "content"],
)
def test_an_error_of_a_signal_handler_ends_the_read_of_a_body(
    fault_server: FaultServer, read: Callable[[Any], object], raised: Exception, left: type
) -> None:
    """The recipe for a total limit: an alarm that raises. It is no silence of the server."""
    with Client(fault_server) as client:
        response = opened(client, fault_server, stream(EVENTS, ending="silence"))
        reader = response.raw._original_response.reader
        began = time.monotonic()
        with pytest.raises(left) as caught, ringing(raised, lambda: reader.is_reading):
            read(response)
        in_time(time.monotonic() - began, 2.5)  # in another 3.3 s the silence is an error
        assert reader.closed

    assert (caught.value is raised) == (left is type(raised))


@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_reader_that_waits_after_a_signal_waits_no_longer(
    fault_server: FaultServer, framing: Any
) -> None:
    """The main thread gets the signals, and Python begins a read that is interrupted anew."""
    with Client(fault_server) as client:
        response = opened(
            client, fault_server, stream(EVENTS, framing=framing, ending="silence"), idle=0.2
        )
        before = signal.signal(signal.SIGALRM, lambda *_: None)
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.05)
        try:
            with pytest.raises(StreamIdle) as caught:
                list(iter_events(response))
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    assert in_time(caught.value.elapsed, 2.0) >= 0.2
