"""A connection is pooled only where each byte read from it belongs to a response that ended."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
import requests
from clients import until
from fake_clock import adapter_of, mounted
from urllib3.util.wait import wait_for_read

from resilient_requests import iter_bytes, iter_events
from resilient_requests.testing import Fin, Pause, Reply, Send, respond

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from resilient_requests.testing import FaultServer

STRANGER = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nstranger"
MOMENT = 0.05

HEADS: dict[str, list[bytes]] = {
    "in one piece": [b"HTTP/1.1 %b\r\n%b\r\n"],
    "behind a 100": [b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 %b\r\n%b\r\n"],
    "behind a 103": [b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 %b\r\n%b\r\n"],
    "with a folded field": [b"HTTP/1.1 %b\r\nX-Long: a\r\n b\r\n%b\r\n"],
    "in two packets": [b"HTTP/1.1 ", b"%b\r\n%b\r\n"],
    "of HTTP/1.0": [b"HTTP/1.0 %b\r\nConnection: keep-alive\r\n%b\r\n"],
}
BODILESS: dict[str, tuple[str, bytes, bytes]] = {
    "204": ("GET", b"204 No Content", b""),
    "304": ("GET", b"304 Not Modified", b"Content-Length: 20\r\n"),
    "HEAD": ("HEAD", b"200 OK", b"Content-Length: 20\r\n"),
    "length 0": ("GET", b"200 OK", b"Content-Length: 0\r\n"),
}
BODIES: dict[str, tuple[bytes, bytes]] = {
    "length": (b"Content-Length: 2\r\n", b"ok"),
    "chunks": (b"Transfer-Encoding: chunked\r\n", b"2\r\nok\r\n0\r\n\r\n"),
    "trailers": (b"Transfer-Encoding: chunked\r\n", b"2\r\nok\r\n0\r\nX-A: b\r\n\r\n"),
}

# RFC 9112 6.1: such a framing is faulty, and the connection is closed behind the message.
FAULTY = [("of HTTP/1.0", "chunks"), ("of HTTP/1.0", "trailers")]


def by_content(response: requests.Response) -> None:
    """Read as most do."""
    assert response.content in (b"ok", b"")


def by_raw(response: requests.Response) -> None:
    """Read by urllib3 and http.client, past our own readers."""
    assert response.raw.read() in (b"ok", b"")


def by_small_reads(response: requests.Response) -> None:
    """Read by urllib3 a byte at a time."""
    while response.raw.read(1):
        pass


def by_loop(response: requests.Response) -> None:
    """Read by a loop."""
    assert b"".join(response.iter_content(7)) in (b"ok", b"")


def by_bytes(response: requests.Response) -> None:
    """Read by a stream of ours; a response without a body is read already."""
    with contextlib.suppress(ValueError):
        assert b"".join(iter_bytes(response)) in (b"ok", b"")


READERS = [by_content, by_raw, by_small_reads, by_loop, by_bytes]


def answer(head: list[bytes], status: bytes, fields: bytes, body: bytes) -> Reply:
    """The answer in so many pieces; the last one brings all bytes behind the head."""
    *first, last = head
    filled = b"\0".join([*first, last]) % (status, fields)
    pieces = filled.split(b"\0")
    pieces[-1] += body
    steps: list[Any] = []
    for piece in pieces:
        steps += [Send(piece), Pause(MOMENT)]
    return Reply(tuple(steps[:-1]))


@pytest.fixture
def session(server: FaultServer) -> Iterator[requests.Session]:
    """Ours, without retries: a poisoned connection must not be used at all."""
    with mounted(max_retries=0) as session:
        session.verify = server.ca_path or True
        yield session


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("kind", BODILESS)
@pytest.mark.parametrize("head", HEADS)
def test_bytes_behind_a_response_without_a_body_are_noticed(
    server: FaultServer,
    session: requests.Session,
    head: str,
    kind: str,
    read: Callable[[Any], None],
) -> None:
    """The next caller would get the stranger's answer, with status 200."""
    method, status, fields = BODILESS[kind]
    server.script(answer(HEADS[head], status, fields, STRANGER), respond(b"own"))
    read(session.request(method, server.url, stream=True))

    assert session.get(server.url).content == b"own"
    assert server.accepted == 2


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("head", HEADS)
def test_bytes_behind_a_body_are_noticed(
    server: FaultServer,
    session: requests.Session,
    head: str,
    kind: str,
    read: Callable[[Any], None],
) -> None:
    """Each of the readers may have them in its buffer."""
    fields, body = BODIES[kind]
    server.script(answer(HEADS[head], b"200 OK", fields, body + STRANGER), respond(b"own"))
    read(session.get(server.url, stream=True))

    assert session.get(server.url).content == b"own"
    assert server.accepted == 2


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("head", HEADS)
def test_a_connection_at_a_boundary_is_reused_unless_its_framing_is_faulty(
    server: FaultServer,
    session: requests.Session,
    head: str,
    kind: str,
    read: Callable[[Any], None],
) -> None:
    """The rule must cost no healthy connection.

    HTTP/1.0 has no chunks: a proxy on the way may have framed such a body otherwise.
    """
    fields, body = BODIES[kind]
    server.script(answer(HEADS[head], b"200 OK", fields, body), respond(b"own"))
    read(session.get(server.url, stream=True))

    assert session.get(server.url).content == b"own"
    assert server.accepted == (2 if (head, kind) in FAULTY else 1)


@pytest.mark.parametrize("kind", BODILESS)
@pytest.mark.parametrize("head", HEADS)
def test_a_connection_without_a_body_is_reused(
    server: FaultServer, session: requests.Session, head: str, kind: str
) -> None:
    """A response without a body is at its end at once."""
    method, status, fields = BODILESS[kind]
    server.script(answer(HEADS[head], status, fields, b""), respond(b"own"))
    session.request(method, server.url)

    assert session.get(server.url).content == b"own"
    assert server.accepted == 1


def test_a_connection_that_is_released_before_its_body_came_is_closed(
    server: FaultServer, session: requests.Session
) -> None:
    """The rest of the body would be the next caller's answer; so it is with plain requests."""
    response = session.get(server.url, stream=True)
    response.raw.release_conn()

    assert session.get(server.url).content == b"ok"
    assert server.accepted == 2


@pytest.mark.parametrize("body", [b"2\r\nok\r\n0\r\n", b"2\r\nok\r\n0\r\nX-A: b\r\n"])
@pytest.mark.parametrize("read", [by_content, by_bytes])
def test_a_body_that_ends_with_the_connection_leaves_nothing_to_pool(
    server: FaultServer, session: requests.Session, body: bytes, read: Callable[[Any], None]
) -> None:
    """Servers leave out the last line end; over TLS a close_notify says that nothing more comes."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    server.script(Reply((Send(head + body), Fin(notify=server.url.startswith("https")))))
    read(session.get(server.url, stream=True))

    assert adapter_of(session).stats().idle == 0


def test_an_event_stream_with_bytes_behind_it_is_closed(
    server: FaultServer, session: requests.Session
) -> None:
    """The reader of events reads past the end like any other."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 9\r\n\r\n"
    server.script(Reply((Send(head + b"data: a\n\n" + STRANGER),)))
    events = [event.data for event in iter_events(session.get(server.url, stream=True))]

    assert events == ["a"]
    assert adapter_of(session).stats().idle == 0
    until(lambda: server.open_connections == 0)


def test_a_late_tls_record_without_data_leaves_a_connection_healthy(
    fault_server_factory: Callable[..., FaultServer],
) -> None:
    """TLS 1.3 sends session tickets behind the handshake: the socket is readable then."""
    server = fault_server_factory(tls=True)
    with mounted() as session:
        pool = adapter_of(session).get_connection_with_tls_context(
            session.prepare_request(requests.Request("GET", server.url)), server.ca_path
        )
        conn: Any = pool._get_conn()
        conn.connect()
        assert wait_for_read(conn.sock, timeout=10)

        assert conn.is_connected
        assert conn.sock.gettimeout() == conn.timeout
        pool._put_conn(conn)
        assert session.get(server.url, verify=server.ca_path).content == b"ok"
        assert server.accepted == 1
        assert server.push_idle(STRANGER) == 1
        assert wait_for_read(conn.sock, timeout=10)
        assert not conn.is_connected


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "body",
    [b"3\r\nok\r\n0\r\n\r\n", b"2\r\nok\n0\r\n\r\n", b"1\r\nok\r\n0\r\n\r\n", b"2\r\nok0\r\n\r\n"],
    ids=["size too large", "bare LF", "size too small", "no line end"],
)
@pytest.mark.parametrize("read", [by_content, by_loop, by_bytes])
def test_a_chunk_that_is_not_as_long_as_its_size_is_no_body(
    server: FaultServer, session: requests.Session, body: bytes, read: Callable[[Any], None]
) -> None:
    """A size that is one too large takes the CR for data; the rest looks like a line end."""
    server.script(Reply((Send(CHUNKED + body),)), respond(b"own"))
    with pytest.raises(requests.RequestException):
        read(session.get(server.url, stream=True))

    assert session.get(server.url).content == b"own"
    assert server.accepted == 2
