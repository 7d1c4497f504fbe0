"""The fault server does each fault as announced, as raw sockets and plain requests see it."""

from __future__ import annotations

import contextlib
import functools
import gc
import gzip
import math
import os
import socket
import ssl
import sys
import threading
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from clients import in_time

from resilient_requests import ResilientAdapter
from resilient_requests.testing import (
    BlackHole,
    FaultServer,
    Fin,
    Pause,
    ReadRest,
    Reply,
    Reset,
    Send,
    fin,
    fin_then_reset,
    reset,
    respond,
    silence,
    sse,
    stream,
)
from resilient_requests.testing._certificates import loopback_tls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from resilient_requests.testing import ReceivedRequest

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n0123456789"
CHUNKED = (
    b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3\r\nabc\r\n7;x=y\r\ndefghij\r\n0\r\nT: 1\r\n\r\n"
)
FRAMINGS: Any = ["length", "chunked", "close"]


@pytest.fixture
def session() -> Iterator[requests.Session]:
    """A session of plain requests."""
    with requests.Session() as session:
        yield session


def dial(server: FaultServer, version: ssl.TLSVersion | None = None) -> socket.socket:
    """A connected client socket with a bound on each wait."""
    sock = socket.create_connection((server.host, server.port), timeout=5)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if server.ca_path is None:
        return sock
    context = ssl.create_default_context(cafile=server.ca_path)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context.wrap_socket(sock, server_hostname=server.host)


def read_all(sock: socket.socket, quiet: float = 5.0) -> tuple[bytes, str]:
    """Return all bytes, and the end: "fin", "reset", or "alive" after so many silent seconds."""
    sock.settimeout(quiet)
    got = b""
    while True:
        try:
            data = sock.recv(65536)
        except TimeoutError:
            return got, "alive"
        except OSError:
            return got, "reset"
        if not data:
            return got, "fin"
        got += data


def talk(server: FaultServer, *requests: bytes, quiet: float = 5.0) -> tuple[bytes, str]:
    """Send requests on one new connection, and read all that comes back."""
    with dial(server) as sock:
        for request in requests:
            sock.sendall(request)
        return read_all(sock, quiet)


def get(session: requests.Session, server: FaultServer, **options: Any) -> requests.Response:
    """GET by plain requests, with the server's certificate trusted."""
    return session.get(server.url, verify=server.ca_path or True, **options)


# Requests


@pytest.mark.parametrize("request_bytes", [GET, POST, CHUNKED], ids=["get", "post", "chunked"])
def test_a_request_may_be_cut_at_every_size(
    fault_server: FaultServer, request_bytes: bytes
) -> None:
    """TCP may cut anywhere."""
    with dial(fault_server) as sock:
        for size in range(1, len(request_bytes)):
            sock.sendall(request_bytes[:size])
            sock.sendall(request_bytes[size:])
            assert sock.recv(1000).endswith(b"ok")
    bodies = {
        b"" if request_bytes is GET else b"0123456789" if request_bytes is POST else b"abcdefghij"
    }

    assert {request.body for request in fault_server.requests} == bodies
    assert all(request.complete for request in fault_server.requests)
    assert fault_server.applied == len(request_bytes) - 1
    assert fault_server.accepted == 1


def test_a_request_may_come_byte_by_byte(server: FaultServer) -> None:
    """On TLS each byte is a record of its own."""
    with dial(server) as sock:
        for byte in CHUNKED + LAST:
            sock.send(bytes([byte]))
        answer, _ = read_all(sock)

    assert answer.count(b"200 OK") == 2
    assert server.requests[0].body == b"abcdefghij"


def test_a_request_is_recorded(server: FaultServer) -> None:
    """Tests assert on the request that arrived, not on the one that was meant."""
    before = time.monotonic()
    talk(server, b"PUT /a/b?c=d HTTP/1.1\r\nX-Name: Value\r\nContent-Length: 2\r\n\r\nhi", LAST)
    first, second = server.requests

    assert (first.method, first.target, first.path, first.body) == (
        "PUT",
        "/a/b?c=d",
        "/a/b",
        b"hi",
    )
    assert (first.header("x-NAME"), first.header("other")) == ("Value", None)
    assert (first.connection, first.number, second.connection, second.number) == (1, 1, 1, 2)
    assert before <= first.at <= second.at
    assert first.complete
    assert server.connections[0].requests == 2


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("//a/b?c", "//a/b"),
        ("/a:b//c?d?e", "/a:b//c"),
        ("/?//a", "/"),
        ("http://host//a/b?c", "//a/b"),
        ("http://host", ""),
        ("*", "*"),
    ],
)
def test_a_path_is_all_of_the_target_before_the_query(
    fault_server: FaultServer, target: str, path: str
) -> None:
    """Two slashes at its beginning do not announce a host: only a whole URL has one."""
    fault_server.route(path, respond(b"routed"))
    answer, _ = talk(fault_server, LAST.replace(b" / ", f" {target} ".encode()))

    assert fault_server.requests[0].path == path
    assert answer.endswith(b"routed")


def test_a_body_cut_by_the_client_is_recorded_as_incomplete(server: FaultServer) -> None:
    """Half a request is not applied."""
    with dial(server) as sock:
        sock.sendall(POST[:-4])
        assert server.wait_for(
            lambda server: bool(server.requests) and server.requests[0].size == 6
        )
    assert server.wait_for_disconnects(1)
    (request,) = server.requests

    assert (request.body, request.complete, server.applied) == (b"012345", False, 0)
    assert server.connections[0].ended_by == "peer"


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"nonsense\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
    ],
    ids=["tls", "no request", "no length"],
)
def test_bytes_that_are_no_request_are_refused(fault_server: FaultServer, garbage: bytes) -> None:
    """A client that speaks TLS to a plain port must not wait for ever."""
    answer, end = talk(fault_server, garbage)

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert (end, len(fault_server.requests)) == ("fin", 0)


def test_a_broken_chunk_ends_the_connection(fault_server: FaultServer) -> None:
    """Once the framing is lost, the rest of the body cannot be told from a request."""
    talk(fault_server, b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n")

    assert fault_server.wait_for_disconnects(1)
    assert fault_server.connections[0].ended == "error"
    assert not fault_server.requests[0].complete


@pytest.mark.parametrize(
    "head", [b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n"]
)
def test_a_connection_ends_where_the_client_wants_no_more(server: FaultServer, head: bytes) -> None:
    """Connection: close and HTTP/1.0 end it with the answer."""
    answer, end = talk(server, head)

    assert answer.endswith(b"ok")
    assert end == "fin"


# Answers


def test_answers_are_taken_from_route_script_and_default(
    session: requests.Session, server: FaultServer
) -> None:
    """A health check beside the scripted call must not use up the script."""
    server.route("/health", respond(b"healthy"))
    server.script(respond(b"one"), lambda request: respond(request.body[::-1]))
    server.default = respond(b"none left", status=404)
    verify = server.ca_path or True
    paths = ["/health?x", "/", "/health", "/", "/"]
    answers = [
        session.post(server.url + path, data=b"abc", verify=verify).content for path in paths
    ]

    assert answers == [b"healthy", b"one", b"healthy", b"cba", b"none left"]


def test_a_script_is_shared_by_all_connections() -> None:
    """A retry comes on another connection."""
    with FaultServer(reset(), respond(b"second")) as server:
        assert talk(server, GET) == (b"", "reset")
        assert talk(server, LAST)[0].endswith(b"second")


@pytest.mark.parametrize("chunks", [None, [3], [1, 2, 4], [b"01234", b"56789"]], ids=str)
@pytest.mark.parametrize("packed", [False, True], ids=["identity", "gzip"])
@pytest.mark.parametrize("framing", FRAMINGS)
def test_an_answer_arrives_whole_in_every_framing(
    session: requests.Session, server: FaultServer, framing: Any, packed: bool, chunks: Any
) -> None:
    """A fault means something only if the server is right without it."""
    body = b"" if chunks and isinstance(chunks[0], bytes) else b"0123456789"
    server.default = respond(body, framing=framing, gzip=packed, chunks=chunks)
    answers = [get(session, server).content for _ in range(2)]

    assert answers == [b"0123456789"] * 2
    assert server.accepted == (2 if framing == "close" else 1)


def test_status_reason_headers_and_hint_are_sent(
    session: requests.Session, server: FaultServer
) -> None:
    """Clients read the idle limit from Keep-Alive."""
    server.script(
        respond(
            b"", status=503, reason="Nope", headers={"Retry-After": "1"}, keep_alive="timeout=5"
        ),
        respond(status=299, headers=[("Connection", "close")]),
        respond(status=204),
    )
    first, second, third = (get(session, server) for _ in range(3))

    assert (first.status_code, first.reason) == (503, "Nope")
    assert (first.headers["Retry-After"], first.headers["Keep-Alive"]) == ("1", "timeout=5")
    assert (second.status_code, third.status_code) == (299, 204)
    assert server.accepted == 2


@pytest.mark.parametrize("framing", FRAMINGS)
def test_head_is_answered_without_a_body(server: FaultServer, framing: Any) -> None:
    """A body after HEAD would be the start of the next answer."""
    server.script(respond(b"body", framing=framing), respond(b"last"))
    answer, _ = talk(server, LAST.replace(b"GET", b"HEAD"))

    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert answer.endswith(b"\r\n\r\n")
    assert b"body" not in answer


def test_interim_heads_and_a_pause_come_before_the_head(server: FaultServer) -> None:
    """The response timeout of a client runs on through 1xx."""
    go_on = threading.Event()
    server.script(respond(b"x", interim=[102, 103], head_pause=go_on))
    with dial(server) as sock:
        sock.sendall(LAST)
        first = b""
        while not first.endswith(b"Early Hints\r\n\r\n"):
            first += sock.recv(1000)
        applied = server.applied
        go_on.set()
        rest, _ = read_all(sock)

    assert first == b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n"
    assert (applied, rest[-1:]) == (1, b"x")


def test_a_drip_sends_single_bytes(server: FaultServer) -> None:
    """No parser may depend on bytes that arrive together; on TLS each byte is a record."""
    server.script(respond(b"abc", drip=0.0005))
    pieces: list[bytes] = []
    with dial(server) as sock:
        sock.sendall(GET)
        while not b"".join(pieces).endswith(b"abc"):
            pieces.append(sock.recv(1000))

    assert len(pieces) > 10  # one write would be one piece


def test_the_head_can_be_answered_before_the_body_comes(server: FaultServer) -> None:
    """A 413 may come while the client sends; the connection stays usable after the rest is read."""
    server.script(respond(b"too large", status=413, read="head"))
    with dial(server) as sock:
        sock.sendall(POST[:-10])
        early = sock.recv(1000)
        applied = server.applied
        sock.sendall(POST[-10:] + LAST)
        answer, _ = read_all(sock)

    assert early.startswith(b"HTTP/1.1 413 ")
    assert applied == 0
    assert answer.endswith(b"ok")
    assert server.requests[0].complete


def test_an_early_answer_followed_by_a_reset_is_seen(server: FaultServer) -> None:
    """A client whose send failed finds the answer if it looks for one."""
    server.script(respond(b"too large", status=413, read="head", ending="reset"))
    with dial(server) as sock:
        sock.sendall(POST[:-5])
        answer, _ = read_all(sock)

    assert answer.endswith(b"too large")
    assert server.applied == 0


def test_steps_can_be_combined_freely(server: FaultServer) -> None:
    """The constructors cover the common cases only."""
    steps = (
        Send(b"HTTP/1.1 200 OK\r\nContent-"),
        ReadRest(),
        Pause(0.01),
        Send(b"Length: 2\r\n\r\nhi"),
    )
    server.script(Reply(steps, read="head"))

    assert talk(server, POST, LAST)[0].count(b"HTTP/1.1 200 OK") == 2
    assert server.requests[0].complete


# Mistakes in a script


class Empty:
    """A callable that is false, like every empty collection."""

    def __len__(self) -> int:
        return 0

    def __call__(self, request: ReceivedRequest) -> Reply:
        """Answer."""
        return respond(b"empty")


def test_an_answer_that_is_no_reply_is_refused(fault_server: FaultServer) -> None:
    """A client that retries would hide it: the next reply may be the right one."""
    wrong: Any = [respond()]
    calls: list[tuple[str, Callable[[], object]]] = [
        ("replies", lambda: FaultServer(wrong)),
        ("replies", lambda: fault_server.script(respond(), wrong)),
        ("default", lambda: FaultServer(default=wrong)),
        ("default", lambda: setattr(fault_server, "default", wrong)),
        ("reply", lambda: fault_server.route("/", wrong)),
    ]
    for name, call in calls:
        with pytest.raises(TypeError, match=rf"^{name}\b.* must be Reply or Callable, not list"):
            call()

    assert talk(fault_server, LAST)[0].endswith(b"ok")


def test_a_connection_is_greeted_with_a_reply_or_nothing(fault_server: FaultServer) -> None:
    """There is no request yet for a callable to answer."""
    for expect in (fault_server.on_connect, fault_server.on_handshake):
        wrong: Any = respond
        with pytest.raises(TypeError, match=r"^replies \(an item\) must be Reply or None, not "):
            expect(None, wrong)


def test_a_callable_that_is_false_is_an_answer_too(fault_server: FaultServer) -> None:
    """Only the end of the script brings the default."""
    fault_server.script(Empty())

    assert talk(fault_server, LAST)[0].endswith(b"empty")


def failing(request: ReceivedRequest) -> Reply:
    """An answer with a mistake in it."""
    return respond(str(1 // len(request.body)))


def returning_none(_: object) -> Any:
    """An answer without its return."""


def failing_the_test(_: object) -> Reply:
    """An answer that finds the request wrong; pytest.fail() raises no Exception."""
    pytest.fail("a wrong request")


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (failing, ZeroDivisionError, "zero"),
        (returning_none, TypeError, "returning_none.* must return a Reply, not NoneType"),
        (reset, TypeError, "positional"),  # the parentheses were forgotten
        (failing_the_test, pytest.fail.Exception, "a wrong request"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_failing_answer_is_raised_at_the_end(
    answer: Any, error: type[BaseException], words: str
) -> None:
    """A client would retry after an end of the connection, and the test would turn green."""
    with contextlib.ExitStack() as stack, requests.Session() as session:
        session.mount("http://", ResilientAdapter())
        server = stack.enter_context(FaultServer(answer))
        response = session.get(server.url)

        assert (response.status_code, response.text) == (500, error.__name__)
        assert (len(server.requests), server.applied) == (1, 0)
        assert session.get(server.url).text == "ok"
        with pytest.raises(error, match=words):
            stack.close()
        assert server.open_connections == 0
        server.close()  # raises once only


def test_the_first_failure_is_the_one_that_is_raised(fault_server: FaultServer) -> None:
    """A later one may be its consequence."""
    fault_server.script(failing, returning_none)
    talk(fault_server, GET, LAST)

    with pytest.raises(ZeroDivisionError):
        fault_server.close()


def test_a_failing_answer_does_not_hide_another_failure() -> None:
    """The exception of the block leaves it; a second close() raises the other one."""
    server = FaultServer(failing)

    def block() -> None:
        with server:
            talk(server, LAST)
            raise AssertionError("the test's own")

    with pytest.raises(AssertionError, match="the test's own"):
        block()
    assert server.open_connections == 0
    with pytest.raises(ZeroDivisionError):
        server.close()


def test_an_answer_that_fails_while_the_server_closes_is_raised() -> None:
    """close() joins the threads before it looks for a failure."""
    asked, go_on = threading.Event(), threading.Event()

    def late(_: object) -> Reply:
        asked.set()
        go_on.wait(5)
        raise ZeroDivisionError

    server = FaultServer(late)
    with dial(server) as sock:
        sock.sendall(GET)
        assert asked.wait(5)
        threading.Timer(0.05, go_on.set).start()

        with pytest.raises(ZeroDivisionError):
            server.close()


def of_server(method: str, **others: object) -> Callable[..., object]:
    """Return a function that calls a method of a server of its own."""

    def call(**options: object) -> object:
        with FaultServer() as server:
            return getattr(server, method)(**{**others, **options})

    call.__name__ = method
    return call


# The function with the option, its name, a value of a wrong type, and one out of its range.
WRONG: list[tuple[Callable[..., object], str, Any, Any]] = [
    (Send, "data", "x", ...),
    (Send, "body", "x", ...),
    (Pause, "until", "1", math.nan),
    (Fin, "notify", 1, ...),
    (Reply, "steps", [Send()], ...),
    (Reply, "steps", (b"x",), ...),
    (Reply, "read", True, -1),
    (Reply, "read", None, "none"),
    (Reply, "applies", None, ...),
    (Reply, "slow_read", [1, 1], (0, 1)),
    (Reply, "slow_read", (1,), (1, -1)),
    (respond, "status", "200", 1000),
    (respond, "framing", None, "len"),
    (respond, "gzip", 1, ...),
    (respond, "keep_alive", 5, "\u20ac"),
    (respond, "interim", 100, [200]),
    (respond, "head_pause", True, -1),
    (respond, "ending", Reset(), "rst"),
    (respond, "reason", b"x", "\u20ac"),
    (respond, "headers", ["A: b"], {"A": "\u20ac"}),
    (respond, "headers", {"A": 1}, ...),
    (respond, "body", 1, ...),
    (respond, "chunks", b"ab", [0]),
    (respond, "cut", 1.0, -1),
    (respond, "cut", ("head", "1"), ("body", 1)),
    (respond, "drip", "1", -1),
    (functools.partial(stream, []), "content_type", None, "\u20ac"),
    (stream, "items", b"ab", [-1]),
    (stream, "items", [None], ...),
    (sse, "done", None, ...),
    (reset, "after", None, math.inf),
    (FaultServer, "tls", 1, ...),
    (FaultServer, "patience", None, 0),
    (FaultServer, "idle_limit", "1", 10**400),
    (FaultServer, "idle_fault", None, "fin"),
    (FaultServer, "listen_backlog", None, -1),
    (FaultServer, "receive_buffer", 1.0, 0),
    (of_server("wait_for_requests", count=1), "count", 1.0, -1),
    (of_server("wait_for_disconnects", count=1), "count", None, -1),
    (of_server("wait_for_requests", count=1), "timeout", None, 2_147_484),
    (of_server("wait_for"), "predicate", True, ...),
    (of_server("kill_idle"), "how", None, "drop"),
    (of_server("route", reply=respond()), "path", 1, "/a?b"),
    (of_server("route", reply=respond()), "path", None, "a/b"),
]


@pytest.mark.parametrize(
    ("make", "name", "value", "error"),
    [
        pytest.param(make, name, value, error, id=f"{name}-{value!r:.20}")
        for make, name, *values in WRONG
        for value, error in zip(values, (TypeError, ValueError), strict=True)
        if value is not ...
    ],
)
def test_a_wrong_option_is_named_where_it_is_given(
    make: Callable[..., object], name: str, value: object, error: type[Exception]
) -> None:
    """An error in the connection's thread would be one more fault that a client survives."""
    with pytest.raises(error, match=rf"^{name}\b.* must "):
        make(**{name: value})


def test_a_wrong_choice_is_told_the_right_ones() -> None:
    """The message saves a look into the documentation."""
    read: Any = "rst"

    with pytest.raises(ValueError, match=r"^read must be 'all' or 'head' or a number of bytes, "):
        respond(read=read)


def test_a_list_is_no_event() -> None:
    """It is JSON too, but no API sends one."""
    item: Any = [1]

    with pytest.raises(TypeError, match=r"^datas \(an item\) must be "):
        sse("one", item)


def test_options_may_be_at_their_bounds(server: FaultServer) -> None:
    """The smallest and the largest values work."""
    items: list[bytes | float] = [b"", 0, 0.0]
    replies = [
        respond("ab", status=999, head_pause=0, cut=0, read=0, chunks=(1,), ending="fin"),
        respond(
            b"ab",
            cut=("head", 10_000),
            slow_read=(1, 0),
            interim=(100, 199),
            reason="",
            headers=iter([]),
        ),
        stream(iter(items), ending="fin", status=100),
        reset(after=0),
    ]
    server.script(*replies)
    for path in ("/", "*", "", "host:443", "http://host"):
        server.route(path, respond())

    assert all(talk(server, GET.replace(b" / ", b" /a "))[1] != "alive" for _ in replies)
    assert server.wait_for_requests(len(replies), timeout=0)


def test_header_fields_may_come_from_an_iterator(server: FaultServer) -> None:
    """The server looks at the fields several times, and an iterator can be read once."""
    fields = [("Connection", "close")]
    server.script(respond(b"ok", headers=iter(fields)), stream([b"ok"], headers=iter(fields)))

    assert [talk(server, GET)[1] for _ in range(2)] == ["fin", "fin"]


# Counting


def test_only_complete_requests_that_apply_are_counted(server: FaultServer) -> None:
    """Retry rules are about this difference: an unapplied request may be sent again."""
    server.script(reset(), reset(applies=False), reset(read="head"), reset(read=5), reset(read=10))
    for _ in range(5):
        talk(server, POST)

    assert [request.size for request in server.requests] == [10, 10, 0, 5, 10]
    assert [request.complete for request in server.requests] == [True, True, False, False, True]
    assert server.applied == 2


def test_applications_are_counted_by_key(server: FaultServer) -> None:
    """A client must not have one key applied twice."""
    keyed = GET[:-2] + b"idempotency-key: k\r\n\r\n"
    talk(server, keyed, keyed, LAST)

    assert server.applied_keys == {"k": 2, "": 1}
    assert server.applied == 3


def test_counts_can_be_forgotten(server: FaultServer) -> None:
    """A test warms a connection up, and is not about that."""
    with dial(server) as sock:
        sock.sendall(GET)
        sock.recv(1000)
        server.reset_counts()
        counts = (
            server.accepted,
            server.requests,
            server.applied,
            server.swallowed,
            server.connections,
        )
        sock.sendall(GET)
        sock.recv(1000)

        assert counts == (0, (), 0, 0, ())
        assert (len(server.requests), server.applied, server.open_connections) == (1, 1, 1)


def test_a_wait_ends_when_it_comes_true_or_in_time(fault_server: FaultServer) -> None:
    """A wait is bounded both ways."""
    started = time.monotonic()

    assert not fault_server.wait_for_requests(1, timeout=0.01)
    assert not fault_server.wait_for_disconnects(1, timeout=0.01)
    talk(fault_server, LAST)
    assert fault_server.wait_for_requests(1)
    assert fault_server.wait_for_disconnects(1)
    assert fault_server.wait_for(lambda server: server.open_connections == 0)
    in_time(time.monotonic() - started, 2)


@pytest.mark.parametrize(
    "name",
    ["Authorization", "proxy-authorization", "COOKIE", "x-api-key", "api-key", "x-goog-api-key"],
)
def test_a_request_does_not_show_its_credentials(
    session: requests.Session, fault_server: FaultServer, name: str
) -> None:
    """Pytest prints it when an assertion fails, and logs of CI are read by many."""
    session.post(
        f"{fault_server.url}/path?key=hunter2", headers={name: "hunter3", "Idempotency-Key": "k1"}
    )
    (request,) = fault_server.requests
    assert request.header(name) == "hunter3"

    for shown in (repr(request), str(fault_server.requests), f"{request}"):
        assert "hunter" not in shown
        assert all(part in shown for part in ("POST", "'/path?***'", name, "'k1'", "connection=1"))


def test_the_state_is_in_the_repr(fault_server: FaultServer) -> None:
    """A failing test shows it."""
    talk(fault_server, LAST)
    fault_server.wait_for_disconnects(1)

    assert (
        repr(fault_server)
        == f"<FaultServer {fault_server.url} accepted=1 requests=1 applied=1 open=0>"
    )


# Endings without an answer


@pytest.mark.parametrize(
    ("fault", "end", "recorded"),
    [
        (reset, "reset", ("reset", "server")),
        (fin, "fin", ("fin", "server")),
        (fin_then_reset, "fin", ("reset", "server")),
        (silence, "alive", ("fin", "peer")),
    ],
)
@pytest.mark.parametrize("read", ["all", "head", 5])
def test_a_connection_ends_as_told(
    fault_server: FaultServer,
    fault: Callable[..., Reply],
    end: str,
    recorded: tuple[str, str],
    read: Any,
) -> None:
    """Unread bytes do not turn a FIN into a RST."""
    fault_server.script(fault(read=read))

    assert talk(fault_server, POST, quiet=0.05 if end == "alive" else 5.0) == (b"", end)
    assert fault_server.wait_for_disconnects(1)
    (connection,) = fault_server.connections
    assert (connection.ended, connection.ended_by) == recorded


def test_bytes_that_come_after_a_fin_do_not_turn_it_into_a_reset(fault_server: FaultServer) -> None:
    """A client that still sends must be able to read the bytes before the FIN."""
    fault_server.script(fin(read="head"))
    with dial(fault_server) as sock:
        sock.sendall(POST[:-10])
        first = sock.recv(1)
        time.sleep(0.02)  # a server that does not wait for more would close now
        for byte in POST[-10:]:
            sock.send(bytes([byte]))

        assert (first, sock.recv(1)) == (b"", b"")
    assert fault_server.wait_for_disconnects(1)


def test_a_fin_with_a_reset_after_it_fails_the_next_send(fault_server: FaultServer) -> None:
    """A client that does not look at its idle connection learns of the end so."""
    fault_server.script(fin_then_reset())
    with dial(fault_server) as sock:
        sock.sendall(POST)
        assert sock.recv(1) == b""
        assert fault_server.wait_for_disconnects(1)

        with pytest.raises(OSError):  # noqa: PT011 - EPIPE or ECONNRESET
            sock.sendall(POST)


def test_an_ending_waits_for_its_event(server: FaultServer) -> None:
    """A server may work for some time before it dies."""
    go_on = threading.Event()
    server.script(reset(after=go_on))
    with dial(server) as sock:
        sock.sendall(GET)
        assert server.wait_for(lambda server: server.applied == 1)
        open_before = server.open_connections
        go_on.set()

        assert (open_before, server.wait_for_disconnects(1)) == (1, True)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (reset(), requests.ConnectionError),
        (fin(), requests.ConnectionError),
        (fin_then_reset(), requests.ConnectionError),
        (silence(), requests.ReadTimeout),
        (respond(b"body", cut=("head", 5)), requests.ConnectionError),
        (respond(b"body", cut=0), requests.exceptions.ChunkedEncodingError),
        (respond(b"body", cut=3, ending="fin"), requests.exceptions.ChunkedEncodingError),
        (respond(b"body", cut=3, ending="silence"), requests.ConnectionError),
        (respond(b"body", cut=3, framing="chunked"), requests.exceptions.ChunkedEncodingError),
        (
            respond(b"body", cut=5, framing="chunked", ending="fin"),
            requests.exceptions.ChunkedEncodingError,
        ),
        (sse("a", ending="fin"), requests.exceptions.ChunkedEncodingError),
        (sse("a", ending="reset", framing="length"), requests.exceptions.ChunkedEncodingError),
    ],
)
def test_plain_requests_fails(
    session: requests.Session, server: FaultServer, fault: Reply, error: type[Exception]
) -> None:
    """Users of plain requests see these errors."""
    server.script(fault)

    with pytest.raises(error):
        get(session, server, timeout=0.1)
    assert server.applied == 1
    assert get(session, server).content == b"ok"


def test_a_reset_is_a_reset_for_plain_requests(
    session: requests.Session, fault_server: FaultServer
) -> None:
    """The errno is in the chain of causes, on plain TCP."""
    fault_server.script(reset())
    with pytest.raises(requests.ConnectionError) as caught:
        get(session, fault_server)
    chain: list[BaseException | None] = [caught.value]
    while chain[-1] is not None:
        chain.append(chain[-1].__context__)

    assert any(isinstance(exc, ConnectionResetError) for exc in chain)


@pytest.mark.parametrize("ending", ["fin", "reset", "fin_then_reset", "silence"])
def test_a_large_answer_is_cut_at_the_byte(server: FaultServer, ending: Any) -> None:
    """A reset must not discard bytes that the client has not read yet."""
    server.script(respond(b"x" * 5_000_000, cut=4_000_000, ending=ending))
    with dial(server) as sock:
        sock.sendall(GET)
        assert server.wait_for_requests(1)
        got, end = read_all(sock, 0.3 if ending == "silence" else 5.0)

    assert len(got.partition(b"\r\n\r\n")[2]) == 4_000_000
    assert end != "alive" or ending == "silence"


@pytest.mark.parametrize("size", range(8))
def test_a_head_is_cut_at_the_byte(fault_server: FaultServer, size: int) -> None:
    """Bytes of a head prove that a server was at work."""
    fault_server.script(respond(b"body", cut=("head", size), ending="fin"))

    assert talk(fault_server, GET) == (b"HTTP/1.1"[:size], "fin")


def test_a_fin_over_tls_is_announced_only_at_a_proper_end(fault_server_tls: FaultServer) -> None:
    """Only close_notify tells a whole close-delimited answer from a cut one."""
    fault_server_tls.script(
        respond(b"x", framing="close"), stream([b"x"], framing="close", ending="fin")
    )
    outcomes = []
    for _ in range(2):
        with socket.create_connection(
            (fault_server_tls.host, fault_server_tls.port), timeout=5
        ) as raw:
            context = ssl.create_default_context(cafile=fault_server_tls.ca_path)
            sock = context.wrap_socket(raw, server_hostname="localhost", suppress_ragged_eofs=False)
            sock.sendall(GET)
            try:
                while sock.recv(1000):
                    pass
                outcomes.append("announced")
            except ssl.SSLEOFError:
                outcomes.append("cut")
            sock.close()

    assert outcomes == ["announced", "cut"]


# Streams


@pytest.mark.parametrize("packed", [False, True], ids=["identity", "gzip"])
@pytest.mark.parametrize("framing", FRAMINGS)
def test_items_of_a_stream_arrive_when_they_are_sent(
    session: requests.Session, server: FaultServer, framing: Any, packed: bool
) -> None:
    """Each item can be decoded before the next is sent, gzip included."""
    events = [threading.Event(), threading.Event()]
    server.script(
        stream([b"a1", events[0], b"b2", 0.001, b"c3", events[1]], framing=framing, gzip=packed)
    )
    response = get(session, server, stream=True)
    got = [response.raw.read1(100, decode_content=True)]
    events[0].set()
    while len(b"".join(got)) < 6:
        got.append(response.raw.read1(100, decode_content=True))
    events[1].set()
    rest = response.raw.read(decode_content=True)

    assert (got[0], b"".join(got), rest) == (b"a1", b"a1b2c3", b"")
    assert response.headers["Content-Type"] == "text/event-stream"


@pytest.mark.parametrize("framing", FRAMINGS)
def test_an_empty_item_sends_nothing(
    session: requests.Session, fault_server: FaultServer, framing: Any
) -> None:
    """An empty chunk would be the last one."""
    fault_server.script(stream([b"", b"a", b"", b"b"], framing=framing))

    assert get(session, fault_server).content == b"ab"


def test_gzip_has_its_trailer_unless_cut(server: FaultServer) -> None:
    """A sync-flushed stream without a trailer is decodable, yet not whole."""
    server.script(
        stream([b"abc"], framing="close", gzip=True),
        stream([b"abc"], framing="close", gzip=True, ending="fin"),
    )
    whole, cut = (talk(server, GET)[0].partition(b"\r\n\r\n")[2] for _ in range(2))
    decoder = zlib.decompressobj(wbits=31)

    assert gzip.decompress(whole) == b"abc"
    assert (decoder.decompress(cut), decoder.eof) == (b"abc", False)


@pytest.mark.parametrize(
    ("options", "body"),
    [
        ({}, b'data: {"a": 1}\n\ndata: two\ndata: lines\n\n: raw\n\ndata: [DONE]\n\n'),
        ({"done": False}, b'data: {"a": 1}\n\ndata: two\ndata: lines\n\n: raw\n\n'),
    ],
)
def test_events_are_framed(
    session: requests.Session, server: FaultServer, options: dict[str, Any], body: bytes
) -> None:
    """Text and JSON become events, bytes stay as they are."""
    server.script(sse({"a": 1}, "two\nlines", b": raw\n\n", **options))

    assert get(session, server).content == body


@pytest.mark.parametrize(
    "what", [stream([b"a", 30.0]), silence(), reset(after=30.0)], ids=["pause", "silence", "after"]
)
@pytest.mark.parametrize("how", ["fin", "reset"])
def test_a_peer_that_leaves_is_noticed_at_once(server: FaultServer, what: Reply, how: str) -> None:
    """Tests wait until the server sees that their client has closed."""
    server.script(what)
    with dial(server) as sock:
        sock.sendall(GET)
        assert server.wait_for(lambda server: server.applied == 1)
        if how == "reset":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    started = time.monotonic()

    assert server.wait_for_disconnects(1)
    in_time(time.monotonic() - started, 1)
    assert server.connections[0].ended_by == "peer"


@pytest.mark.skipif(sys.platform != "linux", reason="needs POLLRDHUP")
def test_the_leave_of_a_peer_is_noticed_behind_unread_bytes(fault_server: FaultServer) -> None:
    """Its FIN stands behind them."""
    fault_server.script(silence(read="head"))
    with dial(fault_server) as sock:
        sock.sendall(POST)
        assert fault_server.wait_for_requests(1)

    assert fault_server.wait_for_disconnects(1)


# Reading slowly, or not at all


def test_a_slow_reader_reads_in_pieces(server: FaultServer) -> None:
    """A busy server slows its client down."""
    server.script(respond(slow_read=(3, 0.01)))
    started = time.monotonic()
    answer, _ = talk(server, POST, LAST)

    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert time.monotonic() - started >= 0.03
    assert server.requests[0].body == b"0123456789"


def test_a_server_that_does_not_read_stops_its_client() -> None:
    """Buffers take a part, then the send blocks."""
    with FaultServer(silence(read="head"), receive_buffer=4096) as server, dial(server) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        sock.sendall(POST.replace(b": 10", b": 9999999"))
        assert server.wait_for_requests(1)
        sock.settimeout(0.05)

        with pytest.raises(TimeoutError):
            sock.sendall(b"x" * 4_000_000)


# Connecting


@pytest.mark.parametrize(
    ("fault", "end"),
    [(reset(), "reset"), (fin(), "fin"), (fin_then_reset(), "fin"), (silence(), "alive")],
)
def test_a_connection_can_end_before_anything_is_read(
    fault_server: FaultServer, fault: Reply, end: str
) -> None:
    """Only the scripted connection ends so."""
    fault_server.on_connect(None, fault)
    ends = []
    for expected in ("alive", end, "alive"):
        try:
            with dial(fault_server) as sock:
                ends.append(read_all(sock, 0.1 if expected == "alive" else 10)[1])
        except ConnectionResetError:  # the reset came before connect() returned
            ends.append("reset")

    assert ends == ["alive", end, "alive"]
    assert fault_server.requests == ()
    assert fault_server.accepted == 3


def test_a_pause_before_reading_only_delays(server: FaultServer) -> None:
    """Steps that do not end the connection let it go on."""
    server.on_connect(Reply((Pause(0.01),)))
    server.on_handshake(Reply((Pause(0.01),)))

    assert talk(server, LAST)[0].endswith(b"ok")


# CPython: wrap_socket() leaves its socket to the collector where a reset has come before it.
@pytest.mark.filterwarnings(
    "ignore:unclosed:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.parametrize(
    "fault", [reset(), fin(), silence(), Reply((Send(b"HTTP/1.1 400 no TLS here\r\n\r\n"),))]
)
@pytest.mark.parametrize("place", ["on_connect", "on_handshake"])
def test_a_handshake_can_be_cut(
    session: requests.Session, fault_server_tls: FaultServer, place: str, fault: Reply
) -> None:
    """No request was sent, so each may be retried; the next connection works."""
    getattr(fault_server_tls, place)(fault)
    with pytest.raises((requests.ConnectionError, requests.Timeout)):
        get(session, fault_server_tls, timeout=0.2)
    gc.collect()

    assert fault_server_tls.requests == ()
    assert get(session, fault_server_tls).content == b"ok"
    assert fault_server_tls.accepted == 2


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_versions_of_tls_are_spoken(
    fault_server_tls: FaultServer, version: ssl.TLSVersion
) -> None:
    """Session tickets of 1.3 make idle connections readable."""
    with dial(fault_server_tls, version) as sock:
        sock.sendall(GET)

        assert sock.recv(1000).endswith(b"ok")


def test_a_client_that_does_not_trust_the_server_is_recorded(
    session: requests.Session, fault_server_tls: FaultServer
) -> None:
    """A certificate error is one connection and no request."""
    with pytest.raises(requests.exceptions.SSLError):
        session.get(fault_server_tls.url)

    assert fault_server_tls.wait_for_disconnects(1)
    assert (fault_server_tls.accepted, len(fault_server_tls.requests)) == (1, 0)


def test_tls_without_trustme_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """It names that package alone: users do not need the others of our own tests."""
    loopback_tls.cache_clear()
    monkeypatch.setitem(sys.modules, "trustme", None)

    with pytest.raises(ImportError, match=r"pip install trustme$"):
        FaultServer(tls=True)


# Idle connections


@pytest.mark.parametrize("how", ["reset", "fin"])
def test_idle_connections_can_be_killed(server: FaultServer, how: Any) -> None:
    """Only idle ones end, at once; the thread of one may still be about to wait for a request."""
    server.script(respond(b"1"), respond(b"2"), silence())
    with dial(server) as first, dial(server) as second, dial(server) as busy:
        for sock in (first, second):
            sock.sendall(GET)
            sock.recv(1000)
        busy.sendall(GET)
        assert server.wait_for_requests(3)

        assert server.kill_idle(how) == 2
        assert server.open_connections == 1
        assert "alive" not in {read_all(sock)[1] for sock in (first, second)}
    assert server.kill_idle() == 0


def test_a_kill_never_misses_a_connection_that_was_just_answered(fault_server: FaultServer) -> None:
    """The client may be faster than the thread of the connection."""
    for _ in range(200):
        with dial(fault_server) as sock:
            sock.sendall(GET)
            sock.recv(1000)
            assert fault_server.kill_idle() == 1


def test_unsolicited_bytes_can_be_sent(server: FaultServer) -> None:
    """A client must not take them for the answer to its next request."""
    with dial(server) as sock:
        sock.sendall(GET)
        sock.recv(1000)
        assert server.push_idle(b"HTTP/1.1 408 Request Timeout\r\n\r\n") == 1

        assert sock.recv(1000) == b"HTTP/1.1 408 Request Timeout\r\n\r\n"
        sock.sendall(GET)
        assert sock.recv(1000).endswith(b"ok")


def test_idle_connections_can_be_frozen(server: FaultServer) -> None:
    """A NAT forgets like this: bytes go out, nothing comes back, no error."""
    with dial(server) as sock:
        sock.sendall(GET)
        sock.recv(1000)
        assert server.freeze_idle() == 1
        sock.sendall(GET)

        assert read_all(sock, 0.05) == (b"", "alive")
        assert (server.swallowed, len(server.requests), server.applied) == (1, 1, 1)
        assert server.kill_idle() == 0
        assert talk(server, LAST)[0].endswith(b"ok")
    assert server.wait_for_disconnects(2)


@pytest.mark.parametrize(("fault", "end"), [("reset", "reset"), ("drop", "alive")])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_connection_idle_for_too_long_is_forgotten(tls: bool, fault: Any, end: str) -> None:
    """A middlebox does not tell; the next request learns of it."""
    with FaultServer(tls=tls, idle_limit=0.05, idle_fault=fault) as server, dial(server) as sock:
        sock.sendall(GET)
        sock.recv(1000)
        sock.sendall(GET)
        sock.recv(1000)
        time.sleep(0.1)
        sock.sendall(GET)
        _, outcome = read_all(sock, 0.1 if end == "alive" else 5.0)

        assert outcome in ({end, "fin"} if tls and end == "reset" else {end})
        assert (server.swallowed, len(server.requests), server.applied) == (1, 2, 2)


def test_a_black_hole_swallows_in_the_middle_of_a_connection(server: FaultServer) -> None:
    """It acknowledges all bytes: no send ever fails."""
    server.script(Reply((BlackHole(),), read="head"))

    assert talk(server, POST, b"x" * 3_000_000, quiet=0.05) == (b"", "alive")


# The end


def open_fds() -> int:
    """Return how many file descriptors this process has."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208  # only their number counts


BUSY: dict[str, tuple[Reply, bytes]] = {
    "silent": (silence(), GET),
    "pausing": (stream([30.0]), GET),
    "awaiting": (respond(head_pause=threading.Event()), GET),
    "sending": (respond(b"x" * 50_000_000), GET),
    "reading": (respond(), POST[:-1]),
    "reading slowly": (respond(slow_read=(1, 30.0)), POST),
    "swallowing": (Reply((BlackHole(),)), GET),
    "idle": (respond(), GET),
}


@pytest.mark.skipif(sys.platform != "linux", reason="counts in /proc")
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("busy", BUSY)
def test_close_ends_everything_at_once(busy: str, tls: bool) -> None:
    """No thread, file or descriptor stays, for any wait of a connection."""
    reply, request = BUSY[busy]
    threads, fds = threading.active_count(), open_fds()
    server = FaultServer(reply, tls=tls)
    with dial(server) as sock, socket.create_connection((server.host, server.port)):
        sock.sendall(request)
        assert server.wait_for_requests(1)
        assert server.wait_for(lambda server: server.accepted == 2)
        started = time.monotonic()
        closers = [threading.Thread(target=server.close) for _ in range(2)]
        for closer in closers:
            closer.start()
        for closer in closers:
            closer.join(5)
        server.close()

        in_time(time.monotonic() - started, 0.5)
        assert server.open_connections == 0
        assert server.ca_path is None or not Path(server.ca_path).exists()
    assert (threading.active_count(), open_fds()) == (threads, fds)


def test_a_closed_server_refuses(fault_server: FaultServer) -> None:
    """Tests get a port that refuses so."""
    fault_server.close()

    with pytest.raises(ConnectionRefusedError):
        dial(fault_server)


def test_a_server_can_be_closed_by_its_own_answer() -> None:
    """close() may be called from any thread, that of a connection included."""
    server = FaultServer()

    def bow_out(_: object) -> Reply:
        server.close()
        return respond(b"too late")

    server.default = bow_out
    with dial(server) as sock:
        sock.sendall(GET)
        answer, _ = read_all(sock)
    server.close()

    assert b"HTTP/1.1 200" in answer or answer == b""
    assert server.wait_for(lambda server: server.open_connections == 0)


@pytest.mark.parametrize(
    ("reply", "sent"),
    [
        (respond(), b""),
        (respond(), GET[:-1]),
        (respond(), POST[:-1]),
        (silence(), GET),
        (Reply((BlackHole(),)), GET),
        (respond(head_pause=30.0), GET),
        (respond(head_pause=threading.Event()), GET),
        (respond(b"x" * 50_000_000), GET),
    ],
)
def test_patience_bounds_every_wait(reply: Reply, sent: bytes) -> None:
    """A client that hangs must not keep the server for ever."""
    with FaultServer(reply, patience=0.05) as server, dial(server) as sock:
        sock.sendall(sent)
        started = time.monotonic()

        assert server.wait_for_disconnects(1)
        in_time(time.monotonic() - started, 1)


def test_many_connections_are_served_at_the_same_time(server: FaultServer) -> None:
    """Each has its own thread."""
    everybody = threading.Barrier(20, timeout=5)

    def meet(_: object) -> Reply:
        everybody.wait()
        return respond(b"met")

    server.default = meet
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(dial(server)) for _ in range(20)]
        for sock in socks:
            sock.sendall(GET)

        assert all(sock.recv(1000).endswith(b"met") for sock in socks)
