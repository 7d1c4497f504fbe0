"""Streams end at once when they are cancelled, closed or out of time.

Any thread may end them, and they never look complete.
"""

from __future__ import annotations

import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import requests
from clients import Client, Running, in_time, inside, until
from coded_bodies import FRAMINGS, READERS, coded_stream, events, opened, until_error

from resilient_requests import (
    AttemptStarted,
    Cancelled,
    CancelScope,
    DeadlineExceeded,
    StreamBroken,
    Timeouts,
    iter_bytes,
    iter_events,
)
from resilient_requests.testing import FaultServer, Reply, Send, respond, silence, stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EVENTS = events(0, 1, 2)
SLOW = 60.0  # no limit that a test waits for
AT_ONCE = 0.4


@pytest.fixture
def client(server: FaultServer) -> Iterator[Client]:
    """Ours, on that server, with limits that nobody will wait for."""
    with Client(server, timeouts=Timeouts(connect=5, write=5, response=5, idle=SLOW)) as client:
        yield client


class Reading:
    """A stream that another thread reads; ``data`` has come, and ``error`` ended it."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self.data = b""
        self.came = threading.Event()
        self._pieces = pieces
        self.thread = Running(self._read)

    def _read(self) -> str:
        for piece in self._pieces:
            self.data += piece
            if self.data.count(b"\n\n") >= len(EVENTS):
                self.came.set()
        return "a clean end"

    def wait(self) -> None:
        """Until all that was sent has come."""
        assert self.came.wait(5)

    @property
    def error(self) -> BaseException | None:
        """The error that ended it, which must come at once."""
        in_time(self.thread.seconds_to_end(), AT_ONCE)
        return self.thread.error


def waits(response: requests.Response) -> bool:
    """True if the reader of this response blocks, or is about to."""
    return bool(response.raw._original_response.reader._armed == SLOW)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_scope_ends_a_stream_that_waits(
    client: Client, server: FaultServer, framing: Any, reader: str
) -> None:
    """The end is never clean, though the socket of a close-delimited body reports a clean one.

    No ciphertext is delivered either.
    """
    scope = CancelScope()
    server.script(stream(EVENTS, framing=framing, ending="silence"))
    response = inside(scope, lambda: client.get(stream=True))()
    reading = Reading(READERS[reader](response))
    reading.wait()
    begun = time.monotonic()
    scope.cancel()

    in_time(time.monotonic() - begun, 0.1)
    assert isinstance(reading.error, Cancelled)
    assert reading.data == b"".join(EVENTS)
    assert server.wait_for_disconnects(1)
    assert client.adapter.stats().in_flight == 0
    assert client.adapter.generation == 0


@pytest.mark.parametrize("how", ["cancel", "close"])
@pytest.mark.parametrize("clocks", [{}, {"event_timeout": SLOW}, {"heartbeat": SLOW}])
@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_stream_is_ended_from_another_thread(
    client: Client, server: FaultServer, framing: Any, clocks: dict[str, Any], how: str
) -> None:
    """The thread of the loop learns that the stream was not at its end.

    A server that closes a view's stream is such a case.
    """
    stream_ = iter_events(
        opened(client, server, stream(EVENTS, framing=framing, ending="silence")), **clocks
    )
    reading = Reading(f"data: {event.data}\n\n".encode() for event in stream_)
    reading.wait()
    getattr(stream_, how)()

    assert isinstance(reading.error, Cancelled)
    assert reading.data == b"".join(EVENTS)
    assert server.wait_for_disconnects(1)
    assert client.adapter.stats().in_flight == 0
    assert client.adapter.generation == 0


@pytest.mark.parametrize(
    "close", [lambda response: response.close(), lambda response: response.raw.close()]
)
@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("framing", FRAMINGS)
def test_closing_the_response_wakes_another_threads_reader(
    client: Client, server: FaultServer, framing: Any, reader: str, close: Any
) -> None:
    """A close() of the socket wakes no reader, so the socket must be shut down before it."""
    response = opened(client, server, stream(EVENTS, framing=framing, ending="silence"))
    reading = Reading(READERS[reader](response))
    reading.wait()
    until(lambda: response.raw._original_response.reader._is_waiting)
    close(response)

    assert isinstance(reading.error, Cancelled)
    assert server.wait_for_disconnects(1)
    assert client.adapter.stats().in_flight == 0
    assert client.adapter.generation == 0


RAW: dict[str, Callable[[Any], Any]] = {
    "read": lambda raw: raw.read(),
    "read(n)": lambda raw: raw.read(1000),
    "read1": lambda raw: list(iter(lambda: raw.read1(1000), b"")),
    "stream": lambda raw: list(raw.stream(10)),
    "stream(None)": lambda raw: list(raw.stream(None)),
}


@pytest.mark.parametrize(
    "close", [lambda response: response.close(), lambda response: response.raw.close()]
)
@pytest.mark.parametrize("read", RAW.values(), ids=list(RAW))
@pytest.mark.parametrize("framing", FRAMINGS)
def test_closing_the_response_wakes_another_threads_reader_of_raw(
    client: Client, server: FaultServer, framing: Any, read: Callable[[Any], Any], close: Any
) -> None:
    """The reader holds the lock of http.client's file.

    A thread that closes the file would wait for that lock as long as the limit.
    """
    response = opened(client, server, stream(EVENTS, framing=framing, ending="silence"))
    reading = Running(lambda: read(response.raw))
    tap = response.raw._original_response.reader
    until(lambda: tap._is_waiting and tap.attempt.bytes_received > len(b"".join(EVENTS)))
    begun = time.monotonic()
    close(response)

    in_time(time.monotonic() - begun, AT_ONCE)
    in_time(reading.seconds_to_end(), AT_ONCE)
    assert isinstance(reading.error, Cancelled)
    assert server.wait_for_disconnects(1)
    assert client.adapter.stats().in_flight == 0


@pytest.mark.parametrize(
    "close", [lambda response: response.close(), lambda response: response.raw.close()]
)
@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_reader_of_raw_that_is_about_to_wait_is_woken_too(
    client: Client, server: FaultServer, framing: Any, close: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The closing thread cannot see the reader waiting yet, and waits for it."""
    response = opened(client, server, stream(EVENTS, framing=framing, ending="silence"))
    tap = response.raw._original_response.reader
    assert response.raw.read(1) == b"d"
    token = tap.attempt.token
    token.deadline = token.boot() + 60  # so that each read asks for its limit
    is_about_to, go_on, clip = threading.Event(), threading.Event(), token.clip

    def clipped(limit: float | None) -> float | None:
        limit = clip(limit)
        is_about_to.set()
        go_on.wait(5)
        return limit

    monkeypatch.setattr(token, "clip", clipped)
    reading = Running(response.raw.read)
    assert is_about_to.wait(5)
    closing = Running(lambda: close(response))
    until(lambda: tap._is_closing)
    go_on.set()

    in_time(closing.seconds_to_end(), AT_ONCE)
    in_time(reading.seconds_to_end(), AT_ONCE)
    assert isinstance(reading.error, Cancelled)
    assert client.adapter.stats().in_flight == 0


@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_signal_handler_may_close_the_response_whose_raw_it_interrupts(
    client: Client, server: FaultServer, framing: Any
) -> None:
    """It runs on the thread that holds the lock, and cannot wait for it."""
    response = opened(client, server, stream(EVENTS, framing=framing, ending="silence"))
    before = signal.signal(signal.SIGALRM, lambda *_: response.close())
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with pytest.raises(Cancelled):
            response.raw.read()
    finally:
        signal.signal(signal.SIGALRM, before)

    assert server.wait_for_disconnects(1)
    assert client.adapter.stats().in_flight == 0


def test_two_threads_may_close_at_once(
    client: Client, server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """http.client looks for its file twice, and another thread may take it in between."""
    response = opened(client, server, stream(EVENTS, ending="silence"))
    exchange = response.raw._original_response
    close_file = exchange._close_conn

    def close_after_another() -> None:
        monkeypatch.setattr(exchange, "_close_conn", close_file)
        in_time(Running(response.raw.close).seconds_to_end(), AT_ONCE)
        close_file()

    monkeypatch.setattr(exchange, "_close_conn", close_after_another)
    response.raw.close()

    assert exchange.fp is None
    assert server.wait_for_disconnects(1)


@pytest.mark.parametrize("how", ["cancel", "close"])
def test_another_adapters_stream_is_ended_from_another_thread(
    server: FaultServer, how: str
) -> None:
    """Its socket is as good as ours."""
    server.script(stream(EVENTS, framing="close", ending="silence"))
    with requests.Session() as session:
        response = session.get(server.url, stream=True, timeout=SLOW, verify=server.ca_path or True)
        stream_ = iter_bytes(response)
        reading = Reading(stream_)
        reading.wait()
        getattr(stream_, how)()

        assert isinstance(reading.error, Cancelled)
        assert server.wait_for_disconnects(1)


@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_cancel_amid_ciphertext_delivers_none(
    client: Client, server: FaultServer, framing: Any
) -> None:
    """SSLSocket.shutdown() would drop the TLS object.

    The following bytes would then be read as ciphertext.
    """
    plain = b"0123456789abcdef" * 4096
    server.script(stream([plain] * 200, framing=framing, content_type="a/b", ending="silence"))
    stream_ = iter_bytes(client.get(stream=True))
    first = next(stream_)
    canceller = Running(stream_.cancel)
    pieces, _ = until_error(Cancelled, stream_)
    canceller.seconds_to_end()

    seen = b"".join([first, *pieces])
    assert seen.strip(b"0123456789abcdef") == b""
    assert len(seen) < len(plain) * 200


@pytest.mark.parametrize("reader", READERS)
def test_a_cancelled_stream_that_never_began_reads_nothing(
    client: Client, server: FaultServer, reader: str
) -> None:
    """The events that have arrived are not delivered first."""
    scope = CancelScope()
    server.script(stream(EVENTS))
    response = inside(scope, lambda: client.get(stream=True))()
    pieces = READERS[reader](response)
    scope.cancel()

    with pytest.raises(Cancelled):
        next(pieces)


def test_what_has_arrived_is_not_delivered_after_a_cancel(
    client: Client, server: FaultServer
) -> None:
    """A cancelled stream never looks complete, even if its body has ended already."""
    body = b"".join(EVENTS)
    for reply in (
        stream([body]),
        stream([body], ending="silence"),
        stream([body], framing="length"),
    ):
        stream_ = iter_events(opened(client, server, reply))
        next(stream_)
        stream_.cancel()

        for _ in range(3):
            with pytest.raises(Cancelled):
                next(stream_)


def test_chunks_that_came_in_one_packet_are_not_delivered_after_a_cancel(
    client: Client, server: FaultServer
) -> None:
    """No read of the socket tells of the cancel then; a socket that was shut down is not pooled."""
    scope = CancelScope()
    server.script(respond(b"0123456789", framing="chunked", chunks=(2,)))
    response = inside(scope, lambda: client.get(stream=True))()
    pieces = response.iter_content(None)
    first = next(pieces)
    scope.cancel()

    with pytest.raises(Cancelled):
        next(pieces)
    assert first == b"01"
    assert client.adapter.stats().idle == 0


def test_a_close_between_two_chunks_of_one_packet_is_no_end(
    client: Client, server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread closes after the reader has looked for a chunk, and before it takes it."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    server.script(Reply((Send(head + b"2\r\n01\r\n2\r\n23\r\n0\r\n\r\n"),)))
    response = client.get(stream=True)
    pieces = response.iter_content(None)
    first = next(pieces)
    token = response.raw._original_response.reader.attempt.token
    check = token.check

    def close_first() -> None:
        monkeypatch.setattr(token, "check", check)
        in_time(Running(response.close).seconds_to_end(), AT_ONCE)
        check()

    monkeypatch.setattr(token, "check", close_first)
    with pytest.raises(Cancelled):
        next(pieces)
    assert first == b"01"


def test_nothing_comes_after_a_close(client: Client, server: FaultServer) -> None:
    """Neither arrived events come, nor half an event as if the body had ended there."""
    stream_ = iter_events(
        opened(client, server, stream([b"".join(EVENTS) + b"data: half"], ending="silence"))
    )
    next(stream_)
    stream_.close()

    assert list(stream_) == []
    assert not stream_.is_flushed


def test_a_cancel_wins_over_a_break(client: Client, server: FaultServer) -> None:
    """The flag decides, and not the report of a socket that was shut down or reset."""
    gone = threading.Event()
    server.script(stream([*EVENTS, gone], ending="reset"))
    scope = CancelScope()
    stream_ = iter_events(inside(scope, lambda: client.get(stream=True))())
    next(stream_)
    gone.set()
    assert server.wait_for_disconnects(1)
    scope.cancel()

    with pytest.raises(Cancelled):
        list(stream_)
    assert client.adapter.generation == 0


def test_cancelling_many_times_from_many_threads_is_harmless(
    client: Client, server: FaultServer
) -> None:
    """Together with closes."""
    stream_ = iter_events(opened(client, server, stream(EVENTS, ending="silence")))
    reading = Reading(f"data: {event.data}\n\n".encode() for event in stream_)
    reading.wait()
    enders = [Running(stream_.cancel if number % 2 else stream_.close) for number in range(8)]
    for ender in enders:
        ender.seconds_to_end()

    assert [ender.error for ender in enders] == [None] * 8
    assert isinstance(reading.error, Cancelled)
    assert client.adapter.stats().in_flight == 0
    assert server.wait_for_disconnects(1)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_shutdown_ends_streams_with_an_error(
    client: Client, server: FaultServer, framing: Any, reader: str
) -> None:
    """The end is neither clean nor a fault of the network."""
    response = opened(client, server, stream(EVENTS, framing=framing, ending="silence"))
    reading = Reading(READERS[reader](response))
    reading.wait()
    client.adapter.shutdown()

    assert isinstance(reading.error, StreamBroken)
    assert "shut down" in str(reading.error)
    assert reading.data == b"".join(EVENTS)


# -- deadlines -------------------------------------------------------------------------------------


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_deadline_ends_a_silent_stream(server: FaultServer, framing: Any, reader: str) -> None:
    """It is no silence of the peer's: nobody is to blame."""
    with Client(server, timeouts=Timeouts(idle=SLOW, total=0.08)) as hurried:
        server.script(stream(EVENTS, framing=framing, ending="silence"))
        begun = time.monotonic()
        with pytest.raises(DeadlineExceeded, match=r"Timeouts\.total"):
            list(READERS[reader](hurried.get(stream=True)))

        in_time(time.monotonic() - begun, 0.08 + AT_ONCE)
        assert len(hurried.told(AttemptStarted)) == 1
        assert hurried.adapter.generation == 0
        assert hurried.adapter.stats().in_flight == 0


@pytest.mark.parametrize("reader", READERS)
def test_a_deadline_ends_a_busy_stream(server: FaultServer, reader: str) -> None:
    """The deadline needs no long wait to end it."""
    with Client(server, timeouts=Timeouts(idle=SLOW, total=0.1)) as hurried:
        items: list[Any] = [
            item for pair in zip(EVENTS * 100, [0.01] * 300, strict=True) for item in pair
        ]
        begun = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            list(READERS[reader](opened(hurried, server, stream(items))))

        in_time(time.monotonic() - begun, 0.1 + AT_ONCE)


@pytest.mark.parametrize("reader", READERS)
def test_a_scopes_timeout_bounds_its_streams(
    client: Client, server: FaultServer, reader: str
) -> None:
    """A stream keeps the scope in which it began, even after the scope was left.

    That holds for legacy loops, too.
    """
    server.script(stream(EVENTS, ending="silence"))
    get = inside(CancelScope(timeout=0.08), lambda: client.get(stream=True))

    with pytest.raises(DeadlineExceeded, match="CancelScope"):
        list(READERS[reader](get()))


def test_a_scopes_timeout_bounds_the_wait_for_a_head(client: Client, server: FaultServer) -> None:
    """There is one request, for any number of retries."""
    server.default = silence()
    begun = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        inside(CancelScope(timeout=0.06), lambda: client.get(stream=True))()

    in_time(time.monotonic() - begun, AT_ONCE + 0.06)
    assert server.accepted == 1


@pytest.mark.parametrize("clocks", [{"event_timeout": SLOW}, {"heartbeat": SLOW}])
def test_a_deadline_counts_beside_the_clocks(server: FaultServer, clocks: dict[str, Any]) -> None:
    """The earliest of all limits is waited for."""
    with Client(server, timeouts=Timeouts(idle=SLOW, total=0.08)) as hurried:
        server.script(stream(EVENTS, ending="silence"))
        with pytest.raises(DeadlineExceeded):
            list(iter_events(hurried.get(stream=True), **clocks))


def test_another_adapters_stream_obeys_the_scope_it_is_read_in(server: FaultServer) -> None:
    """The response knows of no scope: the one around iter_bytes() counts."""
    server.script(coded_stream(EVENTS, coding="gzip", ending="silence"))
    with requests.Session() as session:
        response = session.get(server.url, stream=True, timeout=SLOW, verify=server.ca_path or True)
        stream_ = inside(CancelScope(timeout=0.05), lambda: iter_bytes(response))()

        with pytest.raises(DeadlineExceeded):
            list(stream_)
        until(lambda: server.open_connections == 0)
