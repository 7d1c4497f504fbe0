"""Bodies decide: one that is cut, stalled, touched, refused, or too large for a short limit."""

from __future__ import annotations

import array
import errno
import http.client
import io
import pickle
import time
from typing import TYPE_CHECKING, Any

import pytest
import requests
import urllib3.exceptions
from clients import BIG, Client, Running, attempts_of, counts, in_time, refusing, until

from resilient_requests import (
    AttemptFailed,
    AttemptStarted,
    PoolRotated,
    RetryScheduled,
    StreamBroken,
    StreamIdle,
    Timeouts,
    is_transient,
    iter_bytes,
)
from resilient_requests.testing import (
    FaultServer,
    Reply,
    Reset,
    Send,
    Silence,
    reset,
    respond,
    silence,
    stream,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Bodies of responses


def test_a_stream_that_is_cut_keeps_what_came_and_stays_broken(server: FaultServer) -> None:
    """Half of it was seen: nothing is sent again, and no later step looks like a clean end."""
    server.default = stream([b"first"], ending="reset")
    with Client(server) as client, client.post(stream=True) as response:
        chunks = response.iter_content(None)
        got = next(chunks)
        with pytest.raises(StreamBroken) as caught:
            next(chunks)
        with pytest.raises(StreamBroken) as again:
            next(chunks)

    assert got == b"first"
    assert isinstance(caught.value, requests.exceptions.ChunkedEncodingError)
    assert again.value is caught.value
    assert counts(server) == (1, 1, 1)
    assert not is_transient(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("is_legacy", [False, True], ids=["ours", "legacy"])
def test_a_stream_that_goes_silent_is_idle_and_no_timeout(
    server: FaultServer, is_legacy: bool
) -> None:
    """A loop that repeats after requests' errors would repeat items that the caller has seen.

    Code that resumes a download in requests' own loops catches a ConnectionError there.
    """
    server.default = stream([], ending="silence")
    with (
        Client(server) as client,
        client.post(stream=True, timeout=(3, 0.5)) as response,
        pytest.raises(StreamIdle) as caught,
    ):
        next(response.iter_content(None) if is_legacy else iter_bytes(response))

    assert isinstance(caught.value, requests.RequestException)
    assert isinstance(caught.value, requests.ConnectionError) == is_legacy
    assert not isinstance(caught.value, requests.Timeout)
    assert not is_transient(caught.value)
    assert counts(server) == (1, 1, 1)
    assert len(client.told(PoolRotated)) == 1


@pytest.mark.parametrize(
    ("method", "keys", "expected"), [("GET", False, 3), ("POST", True, 3), ("POST", False, 1)]
)
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_body_that_is_cut_inside_the_attempt_is_repeated_where_idempotent(
    server: FaultServer, method: str, keys: bool, expected: int, framing: Any
) -> None:
    """With ``stream=False`` nobody has seen a byte of it yet."""
    server.default = respond(b"0123456789", framing=framing, cut=5)
    with Client(server, idempotency_keys=keys) as client, pytest.raises(StreamBroken) as caught:
        client.session.request(method, server.url)

    assert counts(server) == (expected,) * 3
    assert len(caught.value.attempts) == expected


@pytest.mark.parametrize("status", [429, 503])
def test_a_bare_post_whose_refusal_is_cut_in_the_body_is_not_repeated(
    server: FaultServer, status: int
) -> None:
    """A status counts only where ``statuses`` lists it; this failure is a lost connection."""
    server.default = respond(b"0123456789", status=status, cut=5)
    with Client(server, idempotency_keys=False) as client, pytest.raises(StreamBroken):
        client.post()

    assert counts(server) == (1, 1, 1)


@pytest.mark.parametrize("cut", [0, 5])
@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])
def test_a_redirect_whose_body_is_cut_is_followed(
    server: FaultServer, framing: Any, cut: int, is_stream: bool
) -> None:
    """That body is read only to use the connection again; a payment is made once."""
    server.route(
        "/pay",
        respond(b"0123456789", status=303, headers={"Location": "/paid"}, framing=framing, cut=cut),
    )
    server.route("/paid", respond(b"paid"))
    with Client(server) as client:
        response = client.session.post(server.url + "/pay", data=b"question", stream=is_stream)
        content = response.content

    assert content == b"paid"
    assert [request.path for request in server.requests] == ["/pay", "/paid"]
    assert [each.stopped_by for each in attempts_of(response)] == [None]
    assert server.accepted == 2


def test_a_redirect_that_a_shutdown_cuts_is_not_followed(server: FaultServer) -> None:
    """The shutdown ends the call, and not a fault of the body."""
    server.default = respond(
        b"0123456789", status=303, headers={"Location": "/paid"}, cut=5, ending="silence"
    )
    with Client(server) as client:
        running = Running(client.post)
        until(client.adapter._state.in_flight.all)
        assert server.wait_for_requests(1)
        client.adapter.shutdown()
        running.seconds_to_end()

    assert isinstance(running.error, requests.ConnectionError)
    assert len(server.requests) == 1


@pytest.mark.slow
def test_a_body_that_stalls_inside_the_attempt_leaves_as_requests_raises_it(
    server: FaultServer,
) -> None:
    """Code that knows requests' own error goes on; the server may be at work, so no retry."""
    server.default = respond(b"0123456789", cut=5, ending="silence")
    with requests.Session() as plain, pytest.raises(requests.ConnectionError) as expected:
        plain.get(server.url, verify=server.ca_path or True, timeout=(3, 0.15))
    server.reset_counts()
    with Client(server) as client, pytest.raises(requests.ConnectionError) as caught:
        client.post(timeout=(3, 0.15))

    assert type(caught.value) is type(expected.value)
    assert type(caught.value.args[0]) is type(expected.value.args[0])
    assert str(caught.value) == str(expected.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(
        pickle.loads(pickle.dumps(expected.value))
    )
    assert counts(server) == (1, 1, 1)
    assert len(attempts_of(caught.value)) == 1
    assert not is_transient(caught.value)


@pytest.mark.slow
def test_a_body_that_stalls_is_repeated_once_where_asked_for(server: FaultServer) -> None:
    """It counts as a response timeout."""
    server.default = respond(b"0123456789", cut=5, ending="silence")
    with (
        Client(server, policy={"retry_response_timeout": True}) as client,
        pytest.raises(requests.ConnectionError) as caught,
    ):
        client.post(timeout=(3, 0.15))

    assert counts(server) == (2, 2, 2)
    assert isinstance(caught.value.__cause__, StreamIdle)
    assert caught.value.__cause__.idle_timeout == 0.3
    assert f"port={server.port}" in str(caught.value)


# Bodies of requests


def test_a_generator_that_was_touched_is_not_sent_again(server: FaultServer) -> None:
    """urllib3 would send it again as an empty body, and get a 200 for it."""
    server.default = reset()
    with Client(server) as client, pytest.raises(requests.ConnectionError) as caught:
        client.post(data=iter([b"one", b"two"]))

    assert counts(server) == (1, 1, 1)
    assert attempts_of(caught.value)[0].stopped_by == "not replayable"


def test_an_untouched_generator_is_dialled_for_three_times() -> None:
    """No block was pulled from it, so nothing is lost."""
    blocks = iter([b"one"])
    with (
        refusing() as url,
        Client(url) as client,
        pytest.raises(requests.ConnectionError) as caught,
    ):
        client.post(data=blocks)

    assert len(attempts_of(caught.value)) == 3
    assert list(blocks) == [b"one"]


@pytest.mark.parametrize(
    ("make", "sent"),
    [
        (lambda: io.BytesIO(b"0123456789" * 5), b"0123456789" * 5),
        (lambda: at(io.BytesIO(b"0123456789" * 5), 30), b"0123456789" * 2),
        (lambda: b"bytes", b"bytes"),
        (lambda: bytearray(b"array"), b"array"),
        (lambda: "text", b"text"),
        (lambda: {"k": "v"}, b"k=v"),
        (lambda: memoryview(b"view"), b"view"),
    ],
    ids=["file", "file from 30", "bytes", "bytearray", "str", "form", "memoryview"],
)
def test_a_body_that_can_be_replayed_is_sent_again_as_it_was(
    server: FaultServer, make: Callable[[], Any], sent: bytes
) -> None:
    """It is sent from its place at the call, and not from the start of the file."""
    server.script(reset())
    with Client(server) as client:
        client.post(data=make())

    assert [request.body for request in server.requests] == [sent, sent]


def at(file: io.BytesIO, offset: int) -> io.BytesIO:
    """The file, read up to there."""
    file.seek(offset)
    return file


class Pipe(io.BytesIO):
    """A file that says no when it is asked to go back."""

    def seek(self, *args: Any) -> int:
        raise OSError


class Deaf(io.BytesIO):
    """A file whose ``seek()`` does nothing."""

    def seek(self, *args: Any) -> int:
        return 0


class Progress:
    """A generator in a progress bar: it is no iterator itself, and yet can be read only once."""

    def __init__(self) -> None:
        self._blocks = (block for block in (b"one", b"two"))

    def __iter__(self) -> Iterator[bytes]:
        yield from self._blocks


class Fresh:
    """An iterable that begins anew each time, which nothing proves."""

    def __iter__(self) -> Iterator[bytes]:
        return iter([b"one", b"two"])


@pytest.mark.parametrize(
    "make",
    [
        lambda: Pipe(b"once"),
        lambda: Deaf(b"once"),
        lambda: iter([b"one", b"two"]),
        Progress,
        Fresh,
        lambda: array.array("I", [1, 2, 3]),
    ],
    ids=["pipe", "deaf", "iterator", "progress", "fresh", "array"],
)
@pytest.mark.parametrize(
    "fault", [reset(), Reply((Reset(),), read=0, applies=False)], ids=["answer", "send"]
)
def test_a_body_that_may_not_begin_where_it_began_is_not_sent_again(
    server: FaultServer, make: Callable[[], Any], fault: Reply
) -> None:
    """The server would get the rest of it, or nothing, as a whole request."""
    server.default = fault
    with Client(server) as client, pytest.raises(requests.ConnectionError) as caught:
        client.session.put(server.url, data=make())

    assert len(server.requests) == 1
    assert [attempt.stopped_by for attempt in attempts_of(caught.value)] == ["not replayable"]


OWN = [
    ValueError("mine"),
    KeyboardInterrupt(),
    GeneratorExit(),
    OSError("mine"),
    # urllib3 takes these for an early answer of the server, or for an end of the connection.
    BrokenPipeError(errno.EPIPE, "mine"),
    ConnectionResetError(errno.ECONNRESET, "mine"),
    TimeoutError("mine"),
    http.client.IncompleteRead(b"mine"),
    urllib3.exceptions.ProtocolError("mine"),
    requests.exceptions.ChunkedEncodingError("mine"),
]


@pytest.mark.parametrize("error", OWN, ids=repr)
def test_an_error_of_the_body_iterator_passes_through(
    server: FaultServer, error: BaseException
) -> None:
    """It is the caller's own; a second attempt would only meet it again."""

    class Faulty:
        def __iter__(self) -> Iterator[bytes]:
            yield b"one"
            raise error

    server.default = silence()
    with Client(server) as client, pytest.raises(BaseException) as caught:  # noqa: PT011  # each
        client.post(data=Faulty(), timeout=2)

    assert caught.value is error
    assert (error.__cause__, error.__context__) == (None, None)
    assert len(client.told(AttemptStarted)) == 1
    assert client.told(PoolRotated) == []


def test_an_error_of_a_file_passes_through(server: FaultServer) -> None:
    """A file on a network may be reset too."""

    class Torn(io.BytesIO):
        def read(self, *args: Any) -> bytes:
            raise ConnectionResetError(errno.ECONNRESET, "mine")

    server.default = silence()
    with Client(server) as client, pytest.raises(ConnectionResetError, match="mine") as caught:
        client.post(data=Torn(b"0123456789"), timeout=2)

    assert caught.value.__context__ is None
    assert len(client.told(AttemptStarted)) == 1


def test_a_request_that_its_body_left_unfinished_ends_its_connection(server: FaultServer) -> None:
    """In the pool, its next request would be taken for the rest of the body."""

    def body() -> Iterator[bytes]:
        yield b"one"
        assert server.wait_for_requests(1)
        raise BrokenPipeError(errno.EPIPE, "mine")

    server.script(respond(b"early", status=200, read="head"))
    with Client(server) as client:
        with pytest.raises(BrokenPipeError, match="mine"):
            client.post(data=body())
        response = client.get()

    assert response.content == b"ok"
    assert server.accepted == 2


class GreenletExit(BaseException):
    """Stands for gevent's exception in a killed greenlet."""


@pytest.mark.parametrize("kind", [KeyboardInterrupt, GreenletExit, SystemExit])
def test_an_interrupt_in_the_wait_passes_through(
    server: FaultServer, kind: type[BaseException]
) -> None:
    """Tenacity catches BaseException; only an Exception may ever be repeated."""

    def interrupt(event: object) -> None:
        if isinstance(event, AttemptFailed):
            raise kind

    server.default = reset()
    with Client(server, observers=(interrupt,)) as client, pytest.raises(kind):
        client.post()

    assert counts(server) == (1, 1, 1)


@pytest.mark.slow
def test_a_large_body_outlives_a_short_connect_limit(server: FaultServer) -> None:
    """In requests the connect limit bounds the whole upload: a slow uplink never succeeds."""
    server.default = respond(b"ok", slow_read=(65_536, 0.005))
    with Client(server) as client:
        response = client.post(data=BIG, timeout=(0.3, 30))

    assert response.status_code == 200
    assert counts(server) == (1, 1, 1)
    assert server.requests[0].size == len(BIG)


@pytest.mark.slow
@pytest.mark.parametrize("size", [200_000, len(BIG)], ids=["one that the kernel takes", "large"])
def test_a_peer_that_does_not_read_meets_the_write_limit(
    fault_server: FaultServer, size: int
) -> None:
    """A large body meets the limit in the send call, a small one in the wait for the answer."""
    fault_server.default = silence(read="head")
    limits = Timeouts(write=0.15, response=0.3)
    with (
        Client(
            fault_server, timeouts=limits, policy={"max_retries": 0}, idempotency_keys=False
        ) as client,
        pytest.raises((requests.ConnectionError, requests.ReadTimeout)) as caught,
    ):
        client.post(data=b"x" * size)

    (attempt,) = attempts_of(caught.value)
    assert attempt.phase == ("send" if size == len(BIG) else "wait")
    assert fault_server.applied == 0
    in_time(attempt.elapsed, 1.0)


def test_a_bare_post_that_was_cut_while_being_sent_is_applied_once(server: FaultServer) -> None:
    """Its tail was never handed to the kernel: the proof that the server cannot have acted."""
    server.script(reset(read=1000))
    with Client(server, idempotency_keys=False) as client:
        response = client.post(data=BIG)

    assert response.status_code == 200
    assert counts(server) == (2, 2, 1)
    assert client.told(RetryScheduled)[0].phase == "send"


@pytest.mark.slow
def test_113_kb_that_the_path_resets_are_recovered_and_applied_once(
    fault_server_factory: Callable[..., FaultServer],
) -> None:
    """A NAT that has forgotten the flow answers a large prompt with a reset, in production."""
    body = b"x" * 113_000
    with (
        fault_server_factory(idle_limit=0.3) as server,
        Client(server, idempotency_keys=False) as client,
    ):
        client.warm()
        server.reset_counts()
        time.sleep(0.4)
        response = client.post(data=body)

    assert response.status_code == 200
    assert (server.swallowed, server.applied) == (1, 1)
    assert server.requests[-1].body == body


@pytest.mark.parametrize("ending", ["reset", "fin_then_reset", "silence"])
def test_an_early_refusal_is_returned(server: FaultServer, ending: Any) -> None:
    """A 413 that comes while the body is going out says more than the reset after it."""
    server.default = respond(b"too large", status=413, read=50_000, ending=ending)
    with Client(server) as client:
        response = client.post(data=BIG)

    assert (response.status_code, response.content) == (413, b"too large")
    assert counts(server) == (1, 1, 0)


@pytest.mark.slow
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("status", [201, 303, 503])
@pytest.mark.parametrize("make", [lambda: BIG, lambda: io.BytesIO(BIG)], ids=["bytes", "file"])
def test_an_early_answer_stands_though_the_rest_of_the_request_is_not_read(
    fault_server_factory: Callable[..., FaultServer],
    tls: bool,
    status: int,
    make: Callable[[], Any],
) -> None:
    """The server has given its result; the unread rest causes no second execution."""
    server = fault_server_factory(tls=tls, receive_buffer=4096)
    server.script(
        respond(b"created", status=status, read="head", ending="silence"), respond(b"again")
    )
    limits = Timeouts(write=0.3, response=5.0)
    with Client(server, idempotency_keys=False, timeouts=limits) as client:
        response = client.post(data=make())

    assert (response.status_code, response.content) == (status, b"created")
    assert counts(server) == (1, 1, 0)
    assert client.adapter.stats().idle == 0


@pytest.mark.slow
def test_an_interim_answer_is_none(fault_server_factory: Callable[..., FaultServer]) -> None:
    """The final one never came, and the request cannot have been applied."""
    server = fault_server_factory(receive_buffer=4096)
    server.script(
        Reply((Send(b"HTTP/1.1 100 Continue\r\n\r\n"), Silence()), read="head"), respond(b"again")
    )
    limits = Timeouts(write=0.3, response=5.0)
    with Client(server, idempotency_keys=False, timeouts=limits) as client:
        response = client.post(data=BIG)

    assert response.content == b"again"
    assert client.told(RetryScheduled)[0].phase == "send"
