"""The short reader of heads gives the results of http.client, or leaves the head to it."""

from __future__ import annotations

import contextlib
import http.client
import io
import socket
import ssl
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
import trustme
import urllib3
from fake_clock import mounted
from hypothesis import example, given
from hypothesis import strategies as st

from resilient_requests.call import Attempt
from resilient_requests.testing import FaultServer, Reply, Send
from resilient_requests.transport._head import parse_head
from resilient_requests.transport._socket import SocketReader

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n"


class Wire(io.BytesIO):
    """The socket from which http.client reads a response."""

    def makefile(self, *_: Any) -> Wire:
        """Return itself, as a socket's file."""
        return self


def stock(data: bytes, method: str = "GET") -> http.client.HTTPResponse:
    """Return the response as http.client reads it."""
    response = http.client.HTTPResponse(Wire(data), method=method)  # type: ignore[arg-type]
    response.begin()
    return response


def facts(response: Any) -> tuple[Any, ...]:
    """All that `begin` sets."""
    framing = (response.chunked, response.chunk_left, response.length, response.will_close)
    return (
        response.status,
        response.code,
        response.reason,
        response.version,
        response.msg.items(),
        *framing,
    )


names = st.sampled_from(
    [
        "Content-Length",
        "content-length",
        "Transfer-Encoding",
        "Connection",
        "Date",
        "X",
        "Set-Cookie",
        "A b",
        "",
        "é",
    ]
)
values = st.sampled_from(
    [
        "",
        "2",
        "0",
        "-1",
        "+2",
        "2, 2",
        "0x2",
        "٢",
        "9" * 30,
        "chunked",
        "Chunked",
        "gzip, chunked",
        "chunked ",
        "\tchunked\t,identity",
        "x-chunked",
        "close",
        "Keep-Alive",
    ]
) | st.text(alphabet="ab:;,=\t \x00\x0b\x0c\r\n\x1c\x85\xa0\xff", max_size=8)
ends = st.sampled_from(["\r\n", "\r\n", "\r\n", "\r\n", "\n", "\r", "\r\n ", ""])
spaces = st.sampled_from(["", " ", "\t", "  "])
firsts = st.sampled_from(
    [
        "HTTP/1.1 200 OK",
        "HTTP/1.1 200",
        "HTTP/1.1 200 ",
        "HTTP/1.1 204 No  Content \t",
        "HTTP/1.1 304 Not\xa0Modified\x85",
        "HTTP/1.1 999 x",
        "HTTP/1.1  200 OK",
        "HTTP/1.0 200 OK",
        "HTTP/1.1 2000",
        "http/1.1 200 OK",
        "HTTP/1.1 600",
    ]
)


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    """Heads in good order and in every other."""
    lines = draw(st.lists(st.tuples(names, spaces, values, ends), max_size=5))
    fields = "".join(f"{name}:{space}{value}{end}" for name, space, value, end in lines)
    rest = draw(st.sampled_from(["", "ok", "\r\n"]))
    text = f"{draw(firsts)}{draw(ends)}{fields}\r\n{rest}"
    return text.encode("latin-1", "replace")


@given(heads(), st.sampled_from(["GET", "HEAD"]))
@example(PLAIN, "GET")
@example(PLAIN, "HEAD")
@example(b"HTTP/1.1 200 \tOK\t\r\nX:\t a\t \r\n\r\n", "GET")
@example(b"HTTP/1.1 204 \r\nTransfer-Encoding: chunked\r\n\r\n", "GET")
@example(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", "GET")
@example(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked \r\n\r\n", "GET")
def test_a_head_means_what_it_means_to_http_client(data: bytes, method: str) -> None:
    """Status, reason, fields and framing are the same, and so are the bytes left for the body."""
    head = parse_head(data)
    if head is None:
        return
    known = stock(data, method)
    fp: Any = known.fp
    has_body = known.length != 0 or not (method == "HEAD" or known.status in (204, 304))
    is_chunked = urllib3.HTTPResponse(headers=urllib3.HTTPHeaderDict(known.msg.items())).chunked
    length = None if known.chunked else head.length
    expected = (known.status, known.reason, known.msg.items(), is_chunked)

    assert (head.status, head.reason, head.fields.items(), head.is_chunked) == expected
    assert not has_body or length == known.length
    assert head.closes is known._check_close()  # type: ignore[attr-defined]
    assert data[head.size :] == fp.read()


@pytest.mark.parametrize("size", range(len(PLAIN)))
def test_a_head_that_is_not_whole_is_none(size: int) -> None:
    """That holds at every cut."""
    assert parse_head(PLAIN[:size]) is None


@pytest.mark.parametrize(
    "line",
    [
        b"Content-Length: 2\r\nContent-Length: 2",
        b"Transfer-Encoding: gzip\r\ntransfer-encoding: chunked",
        b"Content-Length: +2",
        b"Content-Length: \xb2",
        b"Content-Length: " + b"9" * 19,
        b"X: a\r\n folded",
        b"X : a",
        b"X: a\x00b",
        b"no colon",
        b"X: a\nY: b",
        b"\r\n".join([b"X: a"] * 101),
    ],
)
def test_what_is_in_doubt_is_left_to_http_client(line: bytes) -> None:
    """It has rules for such heads, or raises the errors that users know."""
    assert parse_head(b"HTTP/1.1 200 OK\r\n" + line + b"\r\n\r\n") is None


@pytest.mark.parametrize(
    "status", [b"100 Continue", b"101 Switching", b"103 Early Hints", b"199 x"]
)
def test_interim_answers_are_left_to_http_client(status: bytes) -> None:
    """The response follows them."""
    assert parse_head(b"HTTP/1.1 " + status + b"\r\n\r\n") is None


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "head",
    [
        PLAIN,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\nX: 1\r\nX: 2\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 20\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 404\r\nX-Empty:\r\nContent-Length:\r\nTransfer-Encoding: identity\r\n\r\n",
    ],
)
def test_on_a_socket_too(fault_server: FaultServer, head: bytes, method: str) -> None:
    """The response is the one that http.client would have made of the same bytes."""
    body = b"ok" if head.endswith(b"2\r\n\r\n") and method == "GET" else b""
    fault_server.script(Reply((Send(head + body),)))
    with mounted(max_retries=0) as session:
        response = session.request(method, fault_server.url, stream=True)

        assert facts(response.raw._original_response) == facts(stock(head + body, method))


def test_bytes_behind_a_body_spoil_the_connection(fault_server: FaultServer) -> None:
    """They would be taken for the next response."""
    fault_server.script(
        Reply((Send(PLAIN + b"ok" + PLAIN + b"no"),)), Reply((Send(PLAIN + b"ok"),))
    )
    with mounted(max_retries=0) as session:
        assert [session.get(fault_server.url).text for _ in range(2)] == ["ok", "ok"]
        assert fault_server.accepted == 2


def test_bytes_behind_no_body_spoil_the_connection(fault_server: FaultServer) -> None:
    """A response without a body is at its end at once, and the bytes behind it are unread."""
    nothing = b"HTTP/1.1 204 No Content\r\n\r\n"
    fault_server.script(Reply((Send(nothing + PLAIN[:20]),)), Reply((Send(PLAIN + b"ok"),)))
    with mounted(max_retries=0) as session:
        assert [session.get(fault_server.url).status_code for _ in range(2)] == [204, 200]
        assert fault_server.accepted == 2


OBSERVED = """
import http.client, sys
seen = []
stock = http.client.HTTPResponse._read_status
def listen(response):
    seen.append(stock(response))
    return seen[-1]
http.client.HTTPResponse._read_status = listen
import requests
from resilient_requests import ResilientAdapter
with requests.Session() as session:
    session.mount("http://", ResilientAdapter())
    session.get(sys.argv[1], timeout=5)
print([status for _, status, _ in seen])
"""


def test_a_listener_to_heads_may_come_before_our_import(fault_server: FaultServer) -> None:
    """Tracers are often the first import of a program."""
    command = [sys.executable, "-c", OBSERVED, fault_server.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=True)

    assert done.stdout == "[200]\n"


# -- the request's head


@contextlib.contextmanager
def _tls_server(authority: trustme.CA, records: list[bytes], size: int) -> Iterator[str]:
    """Answers one request whose body has this size, and keeps each record of it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    def serve() -> None:
        plain, _ = listener.accept()
        plain.settimeout(10)
        with context.wrap_socket(plain, server_side=True) as sock:
            while not b"".join(records).endswith(b"\r\n\r\n" + b"x" * size):
                records.append(sock.recv(1 << 16))
                assert records[-1]
            sock.sendall(PLAIN + b"ok")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"
        thread.join(20)


@pytest.mark.parametrize(("size", "alone"), [(0, True), (1, False), (8192, False), (8193, True)])
def test_a_short_body_goes_out_with_the_head(tmp_path: Path, size: int, *, alone: bool) -> None:
    """They share one packet and one TLS record.

    The server can tell, since a read gives one record.
    """
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    records: list[bytes] = []
    with _tls_server(authority, records, size) as url, mounted(max_retries=0) as session:
        session.put(url, data=b"x" * size, verify=str(tmp_path / "ca.pem"))

    assert records[0].endswith(b"\r\n\r\n") is alone
    assert b"".join(records).endswith(b"\r\n\r\n" + b"x" * size)


def test_a_timeout_that_other_code_sets_during_the_head_is_that_of_the_body_too() -> None:
    """Also where head and body have the same limit, so that ours does not change in between."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(10)
        reader = SocketReader(ours, Attempt.unobserved(10), 10)
        ours.settimeout(5)
        theirs.sendall(b"HEAD")
        reader.recv(4)
        reader.begin_body(10, ends_with_connection=False)
        theirs.sendall(b"body")
        reader.recv(4)

        assert ours.gettimeout() == 5
        reader.close()
