"""The rules of retries: the requests that are sent again, their number, and the final result."""

from __future__ import annotations

import errno
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest
import requests
import tenacity
from clients import Client, Running, attempts_of, counts, in_time, refusing
from requests.structures import CaseInsensitiveDict

from resilient_requests import (
    AttemptFailed,
    AttemptStarted,
    PoolRotated,
    ResilientAdapter,
    RetryDenied,
    RetryPolicy,
    StreamBroken,
    StreamIdle,
    Timeouts,
    is_transient,
    iter_events,
)
from resilient_requests.call import causes
from resilient_requests.testing import (
    FaultServer,
    Reply,
    Send,
    Silence,
    fin,
    fin_then_reset,
    reset,
    respond,
    silence,
    stream,
)

if TYPE_CHECKING:
    from collections.abc import Callable

# Number of requests


def test_a_post_that_is_reset_each_time_makes_three_requests_on_three_connections(
    server: FaultServer,
) -> None:
    """The key declares the POST idempotent; the caller gets the last error with every attempt."""
    server.default = reset()
    with Client(server) as client, pytest.raises(requests.ConnectionError) as caught:
        client.post()

    assert counts(server) == (3, 3, 3)
    assert len({request.header("Idempotency-Key") for request in server.requests}) == 1
    assert [each.number for each in attempts_of(caught.value)] == [1, 2, 3]
    assert [each.stopped_by for each in attempts_of(caught.value)] == [None, None, "exhausted"]
    assert server.ca_path or any(
        isinstance(each, ConnectionResetError) for each in causes(caught.value)
    )
    assert is_transient(caught.value)


@pytest.mark.parametrize("given", [{}, {"Idempotency-Key": "mine"}, {"idempotency-key": "mine"}])
@pytest.mark.parametrize("kind", [dict, CaseInsensitiveDict])
def test_a_key_is_made_where_the_caller_gave_none(
    server: FaultServer, kind: Any, given: dict[str, str]
) -> None:
    """Each send makes a new key, and leaves the caller's headers alone, for any class of them."""
    with Client(server) as client:
        request = requests.Request("POST", server.url, data=b"x").prepare()
        request.headers = kind({"Content-Length": "1", **given})
        for _ in range(2):
            client.session.send(request)

    keys = [each.header("Idempotency-Key") for each in server.requests]
    assert keys == ["mine", "mine"] if given else len(set(keys)) == 2
    assert dict(request.headers) == {"Content-Length": "1", **given}


def test_a_bare_post_that_is_reset_on_a_fresh_connection_is_not_repeated(
    server: FaultServer,
) -> None:
    """The server may have acted on it, and nothing declares a second time harmless."""
    server.default = reset()
    with (
        Client(server, idempotency_keys=False) as client,
        pytest.raises(requests.ConnectionError) as caught,
    ):
        client.post()

    assert counts(server) == (1, 1, 1)
    assert server.requests[0].header("Idempotency-Key") is None
    assert attempts_of(caught.value)[0].stopped_by == "policy"
    assert not is_transient(caught.value)


def test_a_bare_post_on_a_stale_connection_is_repeated_once(server: FaultServer) -> None:
    """Idleness killed the first; the second died on a connection that was fresh."""
    with Client(server, idempotency_keys=False) as client:
        client.warm()
        server.default = reset()
        server.reset_counts()
        with pytest.raises(requests.ConnectionError) as caught:
            client.post()

    assert counts(server) == (1, 2, 2)
    assert [each.reused for each in attempts_of(caught.value)] == [True, False]
    assert client.waited_after == []


@pytest.mark.parametrize("fault", [reset, fin, fin_then_reset])
def test_a_fault_on_the_first_connection_only_costs_one_request(
    server: FaultServer, fault: Callable[[], Reply]
) -> None:
    """A caller on a bad network notices nothing."""
    server.script(fault())
    with Client(server) as client:
        response = client.post()

    assert response.status_code == 200
    assert counts(server) == (2, 2, 2)
    assert len(attempts_of(response)) == 2


@pytest.mark.parametrize(("max_retries", "requests_made"), [(0, 1), (1, 2), (4, 5)])
def test_max_retries_counts_retries_and_not_attempts(
    server: FaultServer, max_retries: int, requests_made: int
) -> None:
    """``max_retries=0`` is a valid wish: the raw error of the first attempt."""
    server.default = reset()
    with (
        Client(server, policy={"max_retries": max_retries}) as client,
        pytest.raises(requests.ConnectionError) as caught,
    ):
        client.post()

    assert counts(server) == (requests_made,) * 3
    assert len(attempts_of(caught.value)) == requests_made


@pytest.mark.parametrize("keys", [True, False], ids=["keyed", "bare"])
def test_a_refused_port_is_dialled_three_times(keys: bool) -> None:
    """Nobody can have seen the request, so even a bare one is repeated."""
    with (
        refusing() as url,
        Client(url, idempotency_keys=keys) as client,
        pytest.raises(requests.ConnectionError) as caught,
    ):
        client.post()

    assert [each.phase for each in attempts_of(caught.value)] == ["connect"] * 3
    assert len(client.told(AttemptStarted)) == 3


def test_mixed_failures_draw_on_one_count(server: FaultServer) -> None:
    """A stale connection, a cut handshake and a reset are together still at most two retries."""
    with Client(server) as client:
        client.warm()
        server.reset_counts()
        server.default = reset()
        if server.ca_path:
            server.on_handshake(reset())
        with pytest.raises(requests.ConnectionError) as caught:
            client.post()

    phases = ["wait", "handshake", "wait"] if server.ca_path else ["wait"] * 3
    assert [each.phase for each in attempts_of(caught.value)] == phases


def test_a_retry_never_takes_another_pooled_connection(server: FaultServer) -> None:
    """Ten connections that a path has forgotten cost one attempt; the other nine are closed."""
    gate = threading.Event()
    with Client(server) as client:
        server.script(*[respond(b"ok", head_pause=gate)] * 10)
        running = [Running(client.get) for _ in range(10)]
        assert server.wait_for_requests(10)
        gate.set()
        for each in running:
            each.seconds_to_end()
        assert client.adapter.stats().idle == 10
        client.events.clear()
        server.reset_counts()
        server.script(reset())
        response = client.post()
        assert server.wait_for(lambda server: server.open_connections == 1)

    assert response.status_code == 200
    assert counts(server) == (1, 2, 2)
    assert len(client.told(AttemptFailed)) == 1


# Response timeouts


@pytest.mark.slow
def test_a_response_timeout_is_not_repeated(server: FaultServer) -> None:
    """The server may be at work: such retries executed three times for three times the wait."""
    server.default = silence()
    with Client(server) as client, pytest.raises(requests.ReadTimeout) as caught:
        client.post(timeout=(3, 0.3))

    assert counts(server) == (1, 1, 1)
    assert attempts_of(caught.value)[0].stopped_by == "policy"
    assert not is_transient(caught.value)
    assert len(client.told(PoolRotated)) == 1


@pytest.mark.slow
def test_a_response_timeout_is_repeated_once_with_a_longer_limit_where_asked_for(
    server: FaultServer,
) -> None:
    """It is repeated once, for any ``max_retries``."""
    server.default = silence()
    with (
        Client(server, policy={"retry_response_timeout": True, "max_retries": 5}) as client,
        pytest.raises(requests.ReadTimeout) as caught,
    ):
        client.post(timeout=(3, 0.15))

    first, second = attempts_of(caught.value)
    assert counts(server) == (2, 2, 2)
    assert first.elapsed >= 0.15
    assert second.elapsed >= 0.3


@pytest.mark.slow
def test_a_response_timeout_of_a_bare_post_is_never_repeated(server: FaultServer) -> None:
    """A user's request changes nothing, since nothing declares it idempotent."""
    server.default = silence()
    with (
        Client(server, policy={"retry_response_timeout": True}, idempotency_keys=False) as client,
        pytest.raises(requests.ReadTimeout),
    ):
        client.post(timeout=(3, 0.15))

    assert counts(server) == (1, 1, 1)


# Answers that are none

UNREADABLE = {
    "too many fields": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 150 + b"\r\n",
    "an endless field": b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\n\r\n",
    "a status of four digits": b"HTTP/1.1 1000 OK\r\n\r\n",
    "another protocol": b"ICY 200 OK\r\n\r\n",
}
MALFORMED = {
    "no size": b"zz\r\n",
    "a negative size": b"-5\r\nhello",
    "too small a size": b"5\r\nhello!\r\n",
    "no size behind a chunk": b"5\r\nhello\r\n\r\n",
}


@pytest.mark.parametrize("answer", UNREADABLE.values(), ids=UNREADABLE)
@pytest.mark.parametrize("ending", [silence, fin])
def test_an_answer_that_cannot_be_read_is_not_asked_for_again(
    server: FaultServer, answer: bytes, ending: Callable[[], Reply]
) -> None:
    """The server has acted, and would say the same again; the path has done nothing wrong."""
    server.default = Reply((Send(answer), *ending().steps))
    with Client(server) as client, pytest.raises(requests.RequestException) as caught:
        client.post()

    assert counts(server)[:2] == (1, 1)
    assert [each.stopped_by for each in attempts_of(caught.value)] == ["policy"]
    assert client.told(PoolRotated) == []
    assert not is_transient(caught.value)


@pytest.mark.parametrize("chunks", MALFORMED.values(), ids=MALFORMED)
@pytest.mark.parametrize("idempotent", [True, False])
def test_a_body_in_a_malformed_framing_counts_as_cut(
    server: FaultServer, chunks: bytes, idempotent: bool
) -> None:
    """A proxy has lost bytes of it: another attempt may bring all, and the request was good."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    server.script(Reply((Send(head + chunks), *silence().steps)))
    with Client(server, idempotency_keys=False) as client:
        if idempotent:
            assert client.get().content == b"ok"
        else:
            with pytest.raises(StreamBroken) as caught:
                client.post()
            assert [each.stopped_by for each in attempts_of(caught.value)] == ["policy"]

    assert counts(server)[:2] == ((2, 2) if idempotent else (1, 1))


@pytest.mark.parametrize("ending", [reset, fin])
@pytest.mark.parametrize("part", [b"H", b"ICY 200", b"HTTP/1.1 200 OK\r\nX: y"])
def test_an_answer_that_was_cut_is_asked_for_again(
    server: FaultServer, part: bytes, ending: Callable[[], Reply]
) -> None:
    """Bytes that do not look like HTTP may begin anything as long as their line has no end."""
    server.script(Reply((Send(part), *ending().steps)))
    with Client(server) as client:
        response = client.post()

    assert response.content == b"ok"
    assert counts(server)[:2] == (2, 2)


# Statuses


@pytest.mark.parametrize("status", [400, 401, 408, 429, 500, 502, 503])
def test_a_status_is_an_answer_and_no_failure(server: FaultServer, status: int) -> None:
    """The caller decides about the meaning of a status."""
    server.default = respond(b"no", status=status)
    with Client(server) as client:
        response = client.post()

    assert (response.status_code, response.content) == (status, b"no")
    assert counts(server) == (1, 1, 1)
    assert client.told(PoolRotated) == []


@pytest.mark.slow
def test_a_listed_status_is_repeated_after_what_the_server_asks_for(server: FaultServer) -> None:
    """``Retry-After`` sets the least wait."""
    server.script(respond(b"", status=503, headers={"Retry-After": "1"}))
    since = time.monotonic()
    with Client(server, policy={"statuses": {503}}) as client:
        response = client.post()

    assert response.content == b"ok"
    assert counts(server) == (2, 2, 2)
    assert time.monotonic() - since >= 1.0


def test_a_wait_that_the_deadline_would_cut_is_not_begun(server: FaultServer) -> None:
    """With a second to wait and half a second left, the answer at hand is the last one."""
    server.default = respond(b"", status=503, headers={"Retry-After": "1"})
    since = time.monotonic()
    with Client(server, policy={"statuses": {503}}, timeouts=Timeouts(total=0.5)) as client:
        response = client.post()

    assert response.status_code == 503
    assert counts(server) == (1, 1, 1)
    assert [each.reason for each in client.told(RetryDenied)] == ["deadline"]
    in_time(time.monotonic() - since, 0.5)


@pytest.mark.parametrize(
    ("status", "method", "keys", "expected"),
    [
        (500, "GET", False, 3),
        (500, "POST", True, 3),
        (500, "POST", False, 1),
        (429, "POST", False, 3),
        (503, "POST", False, 3),
    ],
)
def test_a_listed_status_repeats_what_is_idempotent_or_was_not_handled(
    fault_server: FaultServer, status: int, method: str, keys: bool, expected: int
) -> None:
    """With 429 and 503 a server says that it did nothing; the last response is returned."""
    fault_server.default = respond(b"no", status=status)
    with Client(fault_server, policy={"statuses": {status}}, idempotency_keys=keys) as client:
        response = client.session.request(method, fault_server.url)

    assert response.status_code == status
    assert len(fault_server.requests) == expected


# Certificates and handshakes


def test_a_certificate_that_is_not_trusted_is_an_answer(fault_server_tls: FaultServer) -> None:
    """It will be as bad the next time, and says nothing about pooled connections."""
    with Client(fault_server_tls) as client:
        client.session.verify = True
        with pytest.raises(requests.exceptions.SSLError) as caught:
            client.post()

    assert (fault_server_tls.accepted, len(fault_server_tls.requests)) == (1, 0)
    assert client.told(PoolRotated) == []
    assert len(attempts_of(caught.value)) == 1
    assert not is_transient(caught.value)


def test_a_port_that_speaks_http_is_not_asked_for_tls_again(fault_server: FaultServer) -> None:
    """The URL is wrong; a peer that answers a ClientHello with text will do so again."""
    fault_server.on_connect(*[Reply((Send(b"HTTP/1.1 400 Bad Request\r\n\r\n"), Silence()))] * 3)
    with (
        Client(fault_server.url.replace("http:", "https:")) as client,
        pytest.raises(requests.exceptions.SSLError),
    ):
        client.post()

    assert fault_server.accepted == 1


@pytest.mark.slow
@pytest.mark.parametrize("fault", [reset, fin, fin_then_reset, silence])
@pytest.mark.parametrize("keys", [True, False], ids=["keyed", "bare"])
def test_a_handshake_that_is_cut_is_repeated(
    fault_server_tls: FaultServer, fault: Callable[[], Reply], keys: bool
) -> None:
    """No byte of the request has left, for each of Python's errors."""
    fault_server_tls.on_handshake(fault())
    with Client(fault_server_tls, idempotency_keys=keys, timeouts=Timeouts(connect=0.75)) as client:
        response = client.post()

    assert attempts_of(response)[0].phase == "handshake"
    assert counts(fault_server_tls) == (2, 1, 1)
    assert len(client.told(PoolRotated)) == 1


@pytest.fixture(
    params=[TimeoutError("timed out"), ConnectionResetError(errno.ECONNRESET, "reset")], ids=repr
)
def handling(request: pytest.FixtureRequest) -> Callable[[Callable[[], Any]], Any]:
    """Call something while an error is handled: Python makes that the context of the new error."""

    def call(function: Callable[[], Any]) -> Any:
        try:
            raise request.param
        except OSError:
            return function()

    return call


def test_a_reset_is_one_whatever_the_caller_is_handling(
    client: Client, server: FaultServer, handling: Any
) -> None:
    """A second server is asked where the first has failed."""
    server.script(reset())

    assert handling(client.get).content == b"ok"
    assert client.told(AttemptFailed)[0].phase == "wait"


def test_a_silence_is_one_whatever_the_caller_is_handling(
    server: FaultServer, handling: Any
) -> None:
    """A silence must not pass for the death of a connection, which would repeat the request."""
    server.script(silence())
    with (
        Client(server, timeouts=Timeouts(response=0.2)) as client,
        pytest.raises(requests.ReadTimeout),
    ):
        handling(client.get)

    assert len(server.requests) == 1
    assert client.told(AttemptFailed)[0].errno is None


@pytest.mark.parametrize("clocks", [{}, {"event_timeout": 60.0}])
def test_a_silent_stream_is_idle_whatever_its_reader_is_handling(
    server: FaultServer, handling: Any, clocks: dict[str, Any]
) -> None:
    """A reset that is handled is not this stream's."""
    server.script(stream([b"data: 1\n\n"], ending="silence"))
    with (
        Client(server, timeouts=Timeouts(idle=0.1)) as client,
        iter_events(client.get(stream=True), **clocks) as events,
    ):
        assert next(events).data == "1"
        with pytest.raises(StreamIdle):
            handling(lambda: next(events))


@pytest.mark.parametrize("method", ["POST", "PATCH"])
@pytest.mark.parametrize(
    ("keys", "stream", "requests_read"),
    [
        ({}, False, 1),
        ({}, True, 3),
        ({"idempotency_keys": "streams"}, False, 1),
        ({"idempotency_keys": "streams"}, True, 3),
        ({"idempotency_keys": True}, False, 3),
        ({"idempotency_keys": False}, True, 1),
    ],
)
def test_only_posts_with_a_streamed_response_are_keyed_by_default(
    server: FaultServer, method: str, keys: dict[str, Any], stream: bool, requests_read: int
) -> None:
    """Servers of other POSTs, which send messages or move money, mostly ignore the header."""
    server.default = reset()
    adapter = ResilientAdapter(max_retries=RetryPolicy(wait=tenacity.wait_none()), **keys)
    with requests.Session() as session:
        session.mount(server.url, adapter)
        with pytest.raises(requests.ConnectionError):
            session.request(method, server.url, stream=stream, verify=server.ca_path or True)

    assert len(server.requests) == requests_read
    assert len({request.header("Idempotency-Key") for request in server.requests}) == 1


def test_keys_are_made_of_nothing_that_a_clone_of_the_process_shares(server: FaultServer) -> None:
    """A virtual machine that is started twice from one snapshot must not repeat its twin's keys."""
    with Client(server) as client:
        for _ in range(3):
            client.post()
    keys = [uuid.UUID(request.header("Idempotency-Key")) for request in server.requests]

    assert len(set(keys)) == 3
    assert {key.version for key in keys} == {4}
