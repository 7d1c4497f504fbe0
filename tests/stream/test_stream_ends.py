"""Every end of a stream: its error, the fate of its connection, and the reports to others."""

from __future__ import annotations

import contextlib
import http.client
import os
import pickle
import sys
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any

import pytest
import requests
import urllib3
from clients import Client, Running, in_time, until
from coded_bodies import (
    CODINGS,
    FRAMINGS,
    READERS,
    coded_stream,
    events,
    opened,
    until_error,
    verbatim,
)

from resilient_requests import (
    Cancelled,
    DeadlineExceeded,
    StreamBroken,
    StreamEnded,
    StreamIdle,
    StreamProtocolError,
    StreamTruncated,
    Timeouts,
    iter_bytes,
    iter_events,
)
from resilient_requests.testing import FaultServer, Fin, Reply, Send, respond, stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EVENTS = events(0, 1, 2)
# One that can be told from a clean end: of the rest the body's protocol must judge.
CUTS = [
    ("chunked", "fin"),
    ("chunked", "reset"),
    ("length", "fin"),
    ("length", "reset"),
    ("close", "reset"),
]


def endless(**options: Any) -> Reply:
    """Some events, and then nothing more."""
    return stream(EVENTS, ending="silence", **options)


def is_over(client: Client, server: FaultServer) -> bool:
    """True if the one stream has left no call, and no connection on either side."""
    ended = server.wait_for_disconnects(1)
    return ended and client.adapter.stats().in_flight == client.adapter.stats().idle == 0


# -- errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("framing", FRAMINGS)
def test_silence_is_idle(client: Client, server: FaultServer, framing: Any, reader: str) -> None:
    """The error comes after the limit, not much later, and the connection is closed."""
    response = opened(client, server, endless(framing=framing), idle=0.1)
    pieces = READERS[reader](response)
    begun = time.monotonic()
    with pytest.raises(StreamIdle) as caught:
        list(pieces)

    assert in_time(time.monotonic() - begun, 0.4) >= 0.1
    error = caught.value
    assert (error.clock, error.idle_timeout, error.response) == ("bytes", 0.1, response)
    assert error.bytes_received == len(b"".join(EVENTS))
    assert error.events_received == (3 if reader == "iter_events" else 0)
    assert in_time(error.elapsed, 0.4) >= 0.1
    told = [str(error), *getattr(error, "__notes__", ())]
    assert any("idle_timeout=" in each for each in told) or sys.version_info < (3, 11)  # no notes
    assert is_over(client, server)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("coding", CODINGS[:2])
@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_silent_body_has_brought_nothing(
    client: Client, server: FaultServer, framing: Any, coding: str, reader: str
) -> None:
    """The head is no part of the body."""
    reply = coded_stream([], framing=framing, coding=coding, ending="silence")
    response = opened(client, server, reply, idle=0.02)
    with pytest.raises(StreamIdle) as caught:
        list(READERS[reader](response))

    assert (caught.value.bytes_received, caught.value.events_received) == (0, 0)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(("framing", "ending"), CUTS)
def test_a_cut_is_broken_after_all_that_came(
    client: Client, server: FaultServer, framing: Any, ending: Any, reader: str
) -> None:
    """Nothing that arrived is lost, and it is the class that requests' users catch."""
    response = opened(client, server, stream(EVENTS, framing=framing, ending=ending))
    pieces, error = until_error(StreamBroken, READERS[reader](response))

    assert b"".join(pieces) == b"".join(EVENTS)
    assert issubclass(type(error), requests.exceptions.ChunkedEncodingError)
    assert error.bytes_received == len(b"".join(EVENTS))
    assert error.__cause__ is not None
    assert len(server.requests) == 1
    assert is_over(client, server)


@pytest.mark.parametrize("framing", ["chunked", "length"])
def test_one_missing_byte_is_a_cut(client: Client, server: FaultServer, framing: Any) -> None:
    """A body with a length misses its last byte; a chunk misses the last of its data."""
    cut = 4 if framing == "length" else 7
    response = opened(client, server, respond(b"12345", framing=framing, cut=cut, ending="fin"))
    pieces, error = until_error(StreamBroken, iter_bytes(response))

    assert (b"".join(pieces), error.bytes_received) == (b"1234", 4)
    assert isinstance(error.__cause__, http.client.IncompleteRead)


HEADS = {
    "plain": b"Transfer-Encoding: chunked",
    "space": b"Transfer-Encoding: chunked ",
    "tab": b"Transfer-Encoding:\tChunked\t",
    "list": b"Transfer-Encoding: identity, chunked",
    "two lines": b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
    "folded": b"Transfer-Encoding: chunked \r\nX-Folded: a\r\n b",  # left to http.client
    "length too": b"Content-Length: 0\r\nTransfer-Encoding: chunked ",
}
CHUNKED = b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in EVENTS)
WHOLE = CHUNKED + b"0\r\n\r\n"


def chunked_by(head: str, body: bytes, status: bytes = b"200 OK") -> Reply:
    """A response with the given announcement of chunks; the peer leaves if they are not whole."""
    fields = b"HTTP/1.1 %b\r\nContent-Type: text/event-stream\r\n%b\r\n\r\n" % (status, HEADS[head])
    return Reply((Send(fields + body), *(() if body in (b"", WHOLE) else (Fin(),))))


def _of_content(response: requests.Response) -> Iterator[bytes]:
    yield response.content


@pytest.mark.parametrize("reader", [*READERS, "content"])
@pytest.mark.parametrize("head", HEADS)
def test_chunks_are_announced_in_many_forms(
    client: Client, server: FaultServer, head: str, reader: str
) -> None:
    """White space behind a value is not part of it (RFC 9110 5.5), and codings are a list.

    A reader that misses either takes a cut body for whole.
    """
    read = _of_content if reader == "content" else READERS[reader]
    for _ in range(2):
        response = opened(client, server, chunked_by(head, WHOLE))
        assert b"".join(read(response)) == b"".join(EVENTS)
    assert server.accepted == 1

    server.script(chunked_by(head, CHUNKED))
    pieces, _ = until_error(StreamBroken, read(client.get(stream=True)))
    assert b"".join(pieces) == (b"" if reader == "content" else b"".join(EVENTS))


@pytest.mark.parametrize("head", HEADS)
def test_chunks_of_another_adapter_are_announced_in_many_forms(
    server: FaultServer, head: str
) -> None:
    """Here http.client has read the head, and takes many of them for bodies without a framing."""
    with requests.Session() as session:
        session.verify = server.ca_path or True
        server.script(chunked_by(head, WHOLE))
        assert b"".join(iter_bytes(session.get(server.url, stream=True, timeout=5))) == b"".join(
            EVENTS
        )

        server.script(chunked_by(head, CHUNKED))
        pieces, _ = until_error(
            StreamBroken, iter_bytes(session.get(server.url, stream=True, timeout=5))
        )
        assert b"".join(pieces) == b"".join(EVENTS)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(
    ("method", "status"), [("HEAD", b"200 OK"), ("GET", b"204 No Content"), ("GET", b"304 x")]
)
@pytest.mark.parametrize("is_ours", [True, False])
def test_chunks_that_a_response_without_a_body_announces_are_not_waited_for(
    client: Client, server: FaultServer, method: str, status: bytes, head: str, *, is_ours: bool
) -> None:
    """The connection is free at once."""
    server.script(chunked_by(head, b"", status))
    with requests.Session() as plain:
        plain.verify = server.ca_path or True
        session = client.session if is_ours else plain
        response = session.request(method, server.url, stream=True, timeout=5)
        if is_ours:
            assert list(response.iter_content(None)) == []
            assert client.get().content == b"ok"
            assert server.accepted == 1
        else:
            assert list(iter_bytes(response)) == []


@pytest.mark.parametrize("ending", [None, "fin"])
def test_a_close_delimited_body_ends_when_the_peer_leaves(
    client: Client, server: FaultServer, ending: Any
) -> None:
    """It ends so with and without close_notify.

    Only the body's own protocol could say that something is missing.
    """
    response = opened(
        client, server, stream([*EVENTS, b"data: cut"], framing="close", ending=ending)
    )

    assert b"".join(iter_bytes(response)) == b"".join(EVENTS) + b"data: cut"


def test_a_missing_last_line_end_is_no_cut(client: Client, server: FaultServer) -> None:
    """Servers were seen that leave after the last chunk's size."""
    server.script(respond(b"12345", framing="chunked", cut=10 + 3, ending="fin"))

    assert b"".join(iter_bytes(client.get(stream=True))) == b"12345"


@pytest.mark.parametrize("framing", ["close", "chunked"])
def test_an_unfinished_event_comes_at_a_clean_end_only(
    client: Client, server: FaultServer, framing: Any
) -> None:
    """Many servers leave out the last blank line; after an error it is half of something."""
    items = [*EVENTS, b"data: unfinished"]
    flushed = iter_events(opened(client, server, stream(items, framing=framing)))
    assert [event.data for event in flushed] == ["0", "1", "2", "unfinished"]
    assert flushed.is_flushed

    broken = iter_events(opened(client, server, stream(items, framing=framing, ending="reset")))
    assert [next(broken).data for _ in EVENTS] == ["0", "1", "2"]
    with pytest.raises(StreamBroken):
        next(broken)
    assert not broken.is_flushed


def test_malformed_chunks_are_broken_after_what_was_good(
    client: Client, server: FaultServer
) -> None:
    """They come in one packet, so that one read has the good and the bad."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    for bad, more in (
        (b"zz\r\n", b""),
        (b"-5\r\nhello", b""),
        (b"5\r\nhello!\r\n", b"hello"),
        (b"\r\n", b""),
    ):
        response = opened(client, server, verbatim(head + b"5\r\nfirst\r\n" + bad))
        pieces, error = until_error(StreamBroken, iter_bytes(response))
        assert b"".join(pieces) == b"first" + more
        assert str(error).startswith(f"the framing of the body is malformed after {5 + len(more)} ")


def test_an_oversized_event_names_its_limit(client: Client, server: FaultServer) -> None:
    """The events before it were delivered."""
    response = opened(client, server, stream([*EVENTS, b"data: " + b"x" * 200], ending="silence"))
    stream_ = iter_events(response, max_event_bytes=100)
    assert [next(stream_).data for _ in EVENTS] == ["0", "1", "2"]
    with pytest.raises(StreamProtocolError, match="max_event_bytes=100") as caught:
        next(stream_)

    assert caught.value.events_received == 3
    assert is_over(client, server)


@pytest.mark.parametrize("reader", ["iter_events", "iter_bytes"])
def test_a_body_that_is_not_of_its_coding_is_a_protocol_error(
    client: Client, server: FaultServer, reader: str
) -> None:
    """The peer lied; nobody left."""
    for coding in CODINGS[1:]:
        headers = {"Content-Encoding": coding, "Content-Type": "text/event-stream"}
        response = opened(client, server, respond(b"this is no coded body at all", headers=headers))
        with pytest.raises(StreamProtocolError, match="Content-Encoding"):
            list(READERS[reader](response))


# -- errors stay -----------------------------------------------------------------------------------


def cancelled(response: requests.Response) -> None:
    """Cancel the read of this response, as a scope would."""
    response.raw._original_response.reader.attempt.token.cancel()


FAILURES: dict[str, Any] = {
    "idle": (StreamIdle, endless(), lambda _: None),
    "broken": (StreamBroken, stream(EVENTS, ending="reset"), lambda _: None),
    "cancelled": (Cancelled, endless(), cancelled),
    "short": (StreamBroken, stream(EVENTS, ending="fin", framing="length"), lambda _: None),
}


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("reader", READERS)
def test_an_error_stays(client: Client, server: FaultServer, reader: str, failure: str) -> None:
    """The same object at each further step: never a clean-looking end."""
    kind, reply, prepare = FAILURES[failure]
    response = opened(client, server, reply, idle=0.05)
    # Not the generators that stand around two of them there.
    bare: dict[str, Any] = {
        "iter_events": iter_events,
        "iter_lines": lambda response: response.iter_lines(),
    }
    pieces = bare.get(reader, READERS[reader])(response)
    prepare(response)
    seen: list[BaseException] = []
    for _ in range(12):
        with contextlib.suppress(kind):
            try:
                next(pieces)
            except BaseException as error:
                seen.append(error)
                raise

    assert isinstance(seen[0], kind)
    assert len(seen) >= 6
    assert all(error is seen[0] for error in seen)


@pytest.mark.parametrize("reader", READERS)
def test_an_error_stays_for_the_next_loop(client: Client, server: FaultServer, reader: str) -> None:
    """A second read after a failure does not find an empty rest.

    The bytes before the failure are not the content.
    """
    response = opened(client, server, stream(EVENTS, ending="reset"))
    with pytest.raises(StreamBroken) as caught:
        list(READERS[reader](response))

    for other in READERS.values():
        with pytest.raises(StreamBroken) as again:
            list(other(response))
        assert again.value is caught.value
    with pytest.raises(StreamBroken):
        response.content  # noqa: B018  # the property reads


def test_an_undecodable_body_fails_again_and_again(client: Client, server: FaultServer) -> None:
    """Legacy loops raise the class that requests has for it."""
    response = opened(client, server, respond(b"no gzip", headers={"Content-Encoding": "gzip"}))
    loop = response.iter_content(None)
    seen = []
    for _ in range(3):
        with pytest.raises(requests.exceptions.ContentDecodingError) as caught:
            next(loop)
        seen.append(caught.value)

    assert seen == [seen[0]] * 3


ERRORS = [
    StreamIdle(idle_timeout=0.2, clock="events", bytes_received=3, events_received=1, elapsed=0.5),
    StreamBroken("lost", bytes_received=3, elapsed=0.5, partial={"content": "so far"}),
    StreamTruncated("cut"),
    StreamProtocolError("no stream", response=requests.Response()),
    Cancelled(partial="so far"),
    DeadlineExceeded(),
]


@pytest.mark.parametrize(
    ("clock", "what", "knob"),
    [
        ("bytes", "byte", "idle_timeout=, the call's timeout= or Timeouts.idle"),
        ("events", "event", "event_timeout="),
    ],
)
def test_a_silence_tells_which_knob_sets_its_limit(clock: str, what: str, knob: str) -> None:
    """The adapter supplies a limit that the caller has not given.

    The caller must be able to find it.
    """
    message = f"no {what} for 30 s, after 4096 bytes and 1 event ({knob} sets the limit)"

    assert (
        str(StreamIdle(idle_timeout=30.0, clock=clock, bytes_received=4096, events_received=1))
        == message
    )


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_errors_cross_processes(error: Any, protocol: int) -> None:
    """Celery and multiprocessing pickle them; a response holds a socket, and stays behind."""
    again = pickle.loads(pickle.dumps(error, protocol))

    assert (type(again), str(again)) == (type(error), str(error))
    assert {**vars(again), "response": None} == {**vars(error), "response": None}
    assert vars(again).get("response") is None


@pytest.mark.parametrize("reader", READERS)
def test_a_real_error_pickles(client: Client, server: FaultServer, reader: str) -> None:
    """The error refers to a response in mid-body, and to a cause with sockets behind it."""
    with pytest.raises(StreamIdle) as caught:
        list(READERS[reader](opened(client, server, endless(), idle=0.02)))
    again = pickle.loads(pickle.dumps(caught.value))

    assert (again.idle_timeout, again.bytes_received) == (0.02, caught.value.bytes_received)


def test_the_classes_say_who_must_act() -> None:
    """Loops that retry on requests' own errors must not replay half of a stream."""
    for kind in (StreamIdle, StreamBroken, StreamTruncated, StreamProtocolError):
        assert issubclass(kind, requests.RequestException)
        assert not issubclass(kind, (requests.ConnectionError, requests.Timeout))
    assert issubclass(StreamBroken, requests.exceptions.ChunkedEncodingError)
    assert issubclass(DeadlineExceeded, requests.Timeout)
    assert not issubclass(Cancelled, requests.RequestException)


# -- exits -----------------------------------------------------------------------------------------

ITERATE: list[Any] = [iter_events, iter_bytes]
LEGACY: dict[str, Any] = {
    name: reader for name, reader in READERS.items() if name not in ("iter_events", "iter_bytes")
}


@pytest.mark.parametrize("iterate", ITERATE)
@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_break_closes_the_connection(
    client: Client, server: FaultServer, framing: Any, iterate: Any
) -> None:
    """Unread bytes would poison the next call on the connection; the response may be kept."""
    response = opened(client, server, endless(framing=framing))
    with iterate(response) as stream_:
        for _ in stream_:
            break

    assert is_over(client, server)
    assert list(stream_) == []
    assert response.raw.closed


@pytest.mark.parametrize("iterate", ITERATE)
@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_stream_that_was_never_started_is_closed(
    client: Client, server: FaultServer, framing: Any, iterate: Any
) -> None:
    """A generator's close() would do nothing then."""
    response = opened(client, server, endless(framing=framing))
    stream_ = iterate(response)
    stream_.close()

    assert is_over(client, server)
    assert response.raw.closed


class _Oops(BaseException):
    """Stands for an error that a consumer or a signal handler raises."""


@pytest.mark.parametrize("iterate", ITERATE)
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, GeneratorExit, _Oops])
def test_an_error_of_the_consumer_closes_the_connection(
    client: Client, server: FaultServer, error: type[BaseException], iterate: Any
) -> None:
    """It passes untouched."""
    response = opened(client, server, endless())
    # The loop's body is the part that raises.
    with pytest.raises(error), iterate(response) as stream_:  # noqa: PT012
        next(stream_)
        raise error

    assert is_over(client, server)


def test_a_generator_around_a_stream_closes_it(client: Client, server: FaultServer) -> None:
    """Views are written so. The server closes the generator, perhaps in another thread."""
    response = opened(client, server, endless())

    def view() -> Iterator[str]:
        with iter_events(response) as stream_:
            for event in stream_:
                yield event.data

    body = view()
    assert next(body) == "0"
    closer = Running(body.close)  # type: ignore[attr-defined]
    closer.seconds_to_end()

    assert closer.error is None
    assert is_over(client, server)


@pytest.mark.parametrize("iterate", ITERATE)
@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_dropped_stream_closes_its_socket_and_warns(
    client: Client, server: FaultServer, framing: Any, started: bool, iterate: Any
) -> None:
    """The last net: nothing is given back to a pool from there, whose lock this thread may hold."""
    response = opened(client, server, endless(framing=framing))
    # The warning may come at any point after the iterator is made.
    with pytest.warns(ResourceWarning, match="dropped without close") as caught:  # noqa: PT031
        stream_ = iterate(response)
        if started:
            next(stream_)
        del stream_

    assert len(caught) == 1
    assert is_over(client, server)
    assert response.raw.closed


def test_a_dropped_stream_is_closed_where_warnings_are_errors(
    client: Client, server: FaultServer
) -> None:
    """First closed, then warned."""
    response = opened(client, server, endless())
    stream_ = iter_events(response)
    unraisable = []
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("error")
        patch.setattr("sys.unraisablehook", lambda args: unraisable.append(args.exc_type))
        del stream_

    assert unraisable == [ResourceWarning]
    assert is_over(client, server)
    assert response.raw.closed


@pytest.mark.parametrize("iterate", ITERATE)
@pytest.mark.parametrize("end", ["read", "closed", "failed"])
def test_a_stream_that_has_ended_is_dropped_without_a_word(
    client: Client, server: FaultServer, end: str, iterate: Any
) -> None:
    """Warnings are errors here."""
    if end == "read":
        list(iterate(opened(client, server, stream(EVENTS))))
    elif end == "closed":
        iterate(opened(client, server, endless())).close()
    else:
        with pytest.raises(StreamBroken):
            list(iterate(opened(client, server, stream(EVENTS, ending="reset"))))

    assert client.adapter.stats().in_flight == 0


@pytest.mark.parametrize("loop", LEGACY.values(), ids=list(LEGACY))
def test_a_legacy_loop_over_chunks_of_events_closes_when_it_is_dropped(
    client: Client, server: FaultServer, loop: Any
) -> None:
    """As in requests. No warning, since no legacy code closes its loops; the response lives."""
    response = opened(client, server, endless(framing="chunked"))
    for _ in loop(response):
        break

    assert is_over(client, server)
    with pytest.raises(requests.exceptions.StreamConsumedError):
        next(loop(response))


@pytest.mark.parametrize("end", [lambda loop: loop.close(), lambda _: None], ids=["close", "drop"])
@pytest.mark.parametrize("loop", LEGACY.values(), ids=list(LEGACY))
@pytest.mark.parametrize("framing", ["length", "close"])
def test_another_loop_goes_on_where_one_over_events_was_left(
    client: Client, server: FaultServer, framing: Any, loop: Any, end: Any
) -> None:
    """As in requests, for any framing but chunks."""
    go_on = threading.Event()
    response = opened(client, server, stream([EVENTS[0], go_on, *EVENTS[1:]], framing=framing))
    left = loop(response)
    assert next(left)
    end(left)
    del left
    go_on.set()

    assert b"".join(loop(response))


def test_a_loop_over_a_body_that_raw_found_cut_has_no_end(
    client: Client, server: FaultServer
) -> None:
    """`raw` has told of it; the loop must not look whole afterwards."""
    whole = b"x" * 300_000
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 300001\r\n\r\n"
    response = opened(client, server, Reply((Send(head + whole), Fin())))
    loop = response.iter_content(1000)
    assert next(loop)
    with pytest.raises(urllib3.exceptions.ProtocolError):
        response.raw.read()

    with pytest.raises(Cancelled):
        list(loop)


@pytest.mark.parametrize("loop", LEGACY.values(), ids=list(LEGACY))
def test_a_loop_that_was_closed_gives_nothing(
    client: Client, server: FaultServer, loop: Any
) -> None:
    """As a generator's."""
    response = opened(client, server, endless(framing="length"))
    left = loop(response)
    assert next(left)
    left.close()

    assert list(left) == []
    response.close()


@pytest.mark.parametrize("loop", LEGACY.values(), ids=list(LEGACY))
@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_response_that_is_dropped_with_its_loop_closes(
    client: Client, server: FaultServer, framing: Any, started: bool, loop: Any
) -> None:
    """That holds for any content type, and whether or not the loop had begun."""
    response = opened(client, server, endless(framing=framing, content_type="a/b"))
    pieces = loop(response)
    if started:
        next(pieces)
    del response, pieces

    assert is_over(client, server)


@pytest.mark.parametrize("iterate", ITERATE)
def test_closing_again_is_harmless(client: Client, server: FaultServer, iterate: Any) -> None:
    """A second close may come before the end, after it, and after an error."""
    for reply in (endless(), stream(EVENTS), stream(EVENTS, ending="reset")):
        stream_ = iterate(opened(client, server, reply))
        with contextlib.suppress(StreamBroken):
            next(stream_)
        for _ in range(3):
            stream_.close()
            stream_.response.close()
        stream_.cancel()
        stream_.close()
        assert client.adapter.stats().in_flight == 0


def test_a_stream_gives_its_place_back_once(client: Client, server: FaultServer) -> None:
    """A pool that blocks has so many places, no fewer after an end of any kind, and no more."""
    with Client(server, pool_maxsize=1, pool_block=True) as narrow:
        for end in ("read", "close", "close twice", "error", "cancel"):
            reply = stream(EVENTS, ending={"read": None, "error": "reset"}.get(end, "silence"))
            stream_ = iter_events(opened(narrow, server, reply))
            with contextlib.suppress(StreamBroken, Cancelled):
                next(stream_)
                if end == "cancel":
                    stream_.cancel()
                if end in ("read", "error", "cancel"):
                    list(stream_)
            stream_.close()
            stream_.close()
            (pool,) = narrow.adapter.poolmanager.pools._container.values()
            assert pool.pool is not None
            assert pool.pool.qsize() == 1, end


# -- reports to others -----------------------------------------------------------------------------


def ends_idle(client: Client, server: FaultServer) -> None:
    """Byte silence."""
    with pytest.raises(StreamIdle):
        list(iter_events(opened(client, server, endless()), idle_timeout=0.02))


def ends_broken(client: Client, server: FaultServer) -> None:
    """A reset."""
    with pytest.raises(StreamBroken):
        list(iter_bytes(opened(client, server, stream(EVENTS, ending="reset"))))


def ends_broken_in_a_legacy_loop(client: Client, server: FaultServer) -> None:
    """A reset, too."""
    with pytest.raises(StreamBroken):
        list(opened(client, server, stream(EVENTS, ending="reset")).iter_lines())


def ends_eventless(client: Client, server: FaultServer) -> None:
    """The server is there, and thinks."""
    with pytest.raises(StreamIdle):
        list(iter_events(opened(client, server, endless()), event_timeout=0.02))


def ends_cancelled(client: Client, server: FaultServer) -> None:
    """The user asked for it."""
    stream_ = iter_events(opened(client, server, endless()))
    stream_.cancel()
    with pytest.raises(Cancelled):
        list(stream_)


def ends_closed(client: Client, server: FaultServer) -> None:
    """The user has enough."""
    with iter_events(opened(client, server, endless())) as stream_:
        next(stream_)


def ends_by_response_close(client: Client, server: FaultServer) -> None:
    """The user has enough, in a legacy loop."""
    response = opened(client, server, endless())
    for _ in response.iter_lines():
        response.close()


def ends_undecodable(client: Client, server: FaultServer) -> None:
    """The peer lied."""
    with pytest.raises(StreamProtocolError):
        list(
            iter_bytes(
                opened(client, server, respond(b"no gzip", headers={"Content-Encoding": "gzip"}))
            )
        )


def ends_late(client: Client, server: FaultServer) -> None:
    """Time is up, in a stream that flows."""
    with Client(server, timeouts=Timeouts(total=0.05)) as hurried, pytest.raises(DeadlineExceeded):
        list(iter_events(opened(hurried, server, endless())))


def ends_well(client: Client, server: FaultServer) -> None:
    """All came."""
    list(iter_events(opened(client, server, stream(EVENTS))))


@pytest.mark.parametrize(
    ("end", "retired"),
    [
        (ends_idle, 1),
        (ends_broken, 1),
        (ends_broken_in_a_legacy_loop, 1),
        (ends_eventless, 0),
        (ends_cancelled, 0),
        (ends_closed, 0),
        (ends_by_response_close, 0),
        (ends_undecodable, 0),
        (ends_late, 0),
        (ends_well, 0),
    ],
)
def test_a_dead_path_retires_its_generation(
    client: Client, server: FaultServer, end: Any, retired: int
) -> None:
    """Byte silence and breaks implicate the other connections to that origin; nothing else does."""
    end(client, server)

    assert client.adapter.generation == retired
    assert client.adapter.stats().in_flight == 0


@pytest.mark.parametrize(
    ("end", "error"),
    [
        (ends_idle, "StreamIdle"),
        (ends_broken, "StreamBroken"),
        (ends_cancelled, "Cancelled"),
        (ends_closed, None),
        (ends_well, None),
    ],
)
def test_the_end_of_a_stream_is_told_once(
    client: Client, server: FaultServer, end: Any, error: str | None
) -> None:
    """Observers learn of it, with the class of the error."""
    end(client, server)

    (told,) = client.told(StreamEnded)
    assert told.error == error
    assert told.bytes_received > 0 or end is ends_cancelled


def test_rotating_does_not_touch_a_stream(client: Client, server: FaultServer) -> None:
    """It runs to its end; its connection is closed then, not pooled."""
    rest = threading.Event()
    stream_ = iter_events(opened(client, server, stream([EVENTS[0], rest, *EVENTS[1:]])))
    next(stream_)
    client.adapter.rotate()
    rest.set()

    assert [event.data for event in stream_] == ["1", "2"]
    assert is_over(client, server)


# -- many ------------------------------------------------------------------------------------------


def _end_number(number: int, response: requests.Response) -> None:
    """End a stream in one of the ways there are."""
    way = number % 8
    if way == 0:
        list(iter_events(response))
    elif way == 1:
        with iter_events(response) as stream_:
            next(stream_)
    elif way == 2:
        iter_bytes(response).close()
    elif way == 3:
        iter_events(
            response
        ).__del__()  # like the collector, but without a warning that is an error
    elif way == 4:
        for _ in response.iter_lines():
            break
    elif way == 5:
        stream_ = iter_events(response)
        stream_.cancel()
        with pytest.raises(Cancelled):
            next(stream_)
    elif way == 6:
        response.close()
    else:
        next(response.iter_content(3))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_thousand_streams_leave_nothing(
    fault_server_factory: Callable[..., FaultServer], tls: bool
) -> None:
    """No thread, no socket, no call, however they end."""
    server = fault_server_factory(tls=tls)
    descriptors = Descriptors()
    with Client(server) as client:
        for number in range(1000):
            framing = FRAMINGS[number % 3]
            reply = stream(EVENTS, framing=framing, ending="fin" if framing == "close" else None)
            _end_number(number, opened(client, server, reply))
        assert client.adapter.stats().in_flight == 0
        assert len(client.adapter._state.in_flight.all()) == 0
        assert threading.active_count() <= 3 + server.open_connections
        assert client.adapter.stats().idle <= 1
        until(lambda: server.open_connections <= 1)
    until(lambda: server.open_connections == 0)
    assert descriptors.grown() <= 1


class Descriptors:
    """The number of new file descriptors since this object was made.

    It is 0 if the platform cannot tell.
    """

    def __init__(self) -> None:
        self._before = self._count()

    @staticmethod
    def _count() -> int:
        try:
            # Only their number matters, so no Path per descriptor is made.
            return len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        except OSError:
            return 0

    def grown(self) -> int:
        return self._count() - self._before
