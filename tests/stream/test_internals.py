"""Looks into a response see what they see with plain requests, before and after each way of reading."""

from __future__ import annotations

import contextlib
import copy
import csv
import datetime
import gzip
import http.client
import io
import json
import pickle
import shutil
import socket
import ssl
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import requests
import urllib3
from requests.auth import HTTPDigestAuth
from requests.cookies import extract_cookies_to_jar

from resilient_requests import ResilientAdapter
from resilient_requests.testing import FaultServer, Reply, respond

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

Look = "Callable[[Any], Any]"

BODY = b'{"a": "caf\xc3\xa9"}\r\nsecond,"x"\n\nthird\r\n' + b"0123456789\r\n" * 60 + b"end"
COOKIES = (("Set-Cookie", "a=1; Path=/"), ("Set-Cookie", "b=2"), ("X-Twice", "1"), ("X-Twice", "2"))
LINK = ("Link", '<https://example.com/2>; rel="next"')
HEADERS = (("Content-Type", "application/json; charset=utf-8"), LINK, *COOKIES)
CODED = {
    "identity": (BODY, ()),
    "gzip": (gzip.compress(BODY, mtime=0), (("Content-Encoding", "gzip"),)),
    "deflate": (zlib.compress(BODY), (("Content-Encoding", "deflate"),)),
}


def body_of(framing: Any, coding: str) -> Reply:
    """The answer of a case."""
    body, headers = CODED[coding]
    return respond(body, headers=(*HEADERS, *headers), framing=framing, chunks=(120, 1, 333))


# -- looks at a response that is not read yet


def socket_of(response: Any) -> Any:
    """The socket, by the way that most packages go."""
    return response.raw._fp.fp.raw._sock


def of_socket(sock: Any) -> Any:
    """What a socket says of itself."""
    if sock is None:
        return None
    facts = [isinstance(sock, socket.socket), isinstance(sock, ssl.SSLSocket)]
    facts += [sock.family, sock.type, sock.getpeername()[0], sock.fileno() > 0, sock.gettimeout()]
    if isinstance(sock, ssl.SSLSocket):
        facts += [sock.version(), sock.cipher(), sock.getpeercert(), sock.getpeercert(True)]
        facts += [sock.selected_alpn_protocol(), sock.server_hostname, sock.server_side]
        facts += [sock.context.verify_mode, sock.context.check_hostname, sock.context.options]
    return facts


def state(response: Any) -> Any:
    """What changes as a response is read."""
    raw = response.raw
    original = raw._original_response
    return {
        "closed": (raw.closed, raw.isclosed(), original.isclosed()),
        "tell": raw.tell(),
        "length": raw.length_remaining,
        "connection": (raw.connection is None, raw._connection is None),
        "consumed": (response._content_consumed, response._content),
        "fp": (raw._fp is original, raw._fp.fp is None),
    }


RAW = "status reason version version_string headers msg chunked length_remaining decode_content url"
RAW += " enforce_content_length auto_close retries closed connection _body _request_url"
PLAIN = "status_code reason url encoding apparent_encoding is_redirect is_permanent_redirect ok"
PLAIN += " links next history headers cookies text content"
ORIGINAL = "status reason version headers msg chunked length will_close debuglevel code _method"


def _told(value: Any) -> Any:
    """What can be compared of an attribute."""
    if isinstance(value, urllib3.connection.HTTPConnection):
        return isinstance(value, urllib3.connection.HTTPSConnection), of_socket(value.sock)
    if isinstance(value, urllib3.Retry):
        return value.total, value.connect, value.read, value.redirect, value.status, value.history
    if isinstance(value, http.client.HTTPMessage | urllib3.HTTPHeaderDict):
        return sorted(value.items())
    if isinstance(value, requests.cookies.RequestsCookieJar):
        return value.get_dict()
    return dict(value) if isinstance(value, requests.structures.CaseInsensitiveDict) else value


def attribute(path: str) -> Callable[[Any], Any]:
    """A look at one attribute."""

    def look(response: Any) -> Any:
        value = response
        for name in path.split("."):
            value = getattr(value, name)
        return _told(value)

    return look


FACTS: dict[str, Callable[[Any], Any]] = {
    **{f"raw.{name}": attribute(f"raw.{name}") for name in RAW.split()},
    **{
        f"raw._original_response.{name}": attribute(f"raw._original_response.{name}")
        for name in ORIGINAL.split()
    },
    "state": state,
    "vars": lambda r: sorted(vars(r)),
    "repr": repr,
    "bool": bool,
    "raw is urllib3's": lambda r: isinstance(r.raw, urllib3.HTTPResponse),
    "raw is a file": lambda r: isinstance(r.raw, io.IOBase),
    "raw._fp is http.client's": lambda r: isinstance(r.raw._fp, http.client.HTTPResponse),
    "raw._fp.fp is buffered": lambda r: isinstance(r.raw._fp.fp, io.BufferedIOBase),
    "raw._fp.fp.raw is raw": lambda r: isinstance(r.raw._fp.fp.raw, io.RawIOBase),
    "raw._fp.fp.raw._sock": lambda r: of_socket(socket_of(r)),
    "raw._fp.fp.fileno": lambda r: r.raw._fp.fp.fileno() == socket_of(r).fileno(),
    "raw.fileno": lambda r: r.raw.fileno() == r.raw.connection.sock.fileno(),
    "raw.connection.sock": lambda r: of_socket(r.raw.connection.sock),
    "raw._connection.host": lambda r: (r.raw._connection.host, r.raw._connection.timeout),
    "raw._connection.is_verified": lambda r: r.raw._connection.is_verified,
    "raw._connection.is_connected": lambda r: r.raw._connection.is_connected,
    "raw._pool": lambda r: (r.raw._pool.scheme, r.raw._pool.host, r.raw._pool.num_requests > 0),
    "raw.supports_chunked_reads": lambda r: r.raw.supports_chunked_reads(),
    "raw.readable": lambda r: (r.raw.readable(), r.raw.writable(), r.raw.seekable()),
    "raw.isatty": lambda r: r.raw.isatty(),
    "raw.geturl": lambda r: r.raw.geturl(),
    "raw.info": lambda r: _told(r.raw.info()),
    "raw.getheaders": lambda r: _told(r.raw.getheaders()),
    "raw.getheader": lambda r: (r.raw.getheader("x-twice"), r.raw.getheader("no", "default")),
    "raw.headers.getlist": lambda r: r.raw.headers.getlist("set-cookie"),
    "raw.get_redirect_location": lambda r: r.raw.get_redirect_location(),
    "raw._original_response.getheader": lambda r: r.raw._original_response.getheader("X-Twice"),
    "raw._original_response.getheaders": lambda r: r.raw._original_response.getheaders(),
    "raw._original_response.getcode": lambda r: r.raw._original_response.getcode(),
    "raw._original_response.msg.get_all": lambda r: r.raw._original_response.msg.get_all("X-Twice"),
    "cookies of the original": lambda r: _cookies(r),
    "elapsed": lambda r: (type(r.elapsed), 0 < r.elapsed.total_seconds() < 5),
    "request": lambda r: (r.request.method, dict(r.request.headers), r.request.body),
    "connection": lambda r: isinstance(r.connection, requests.adapters.HTTPAdapter),
    "raise_for_status": lambda r: r.raise_for_status(),
    "copy": lambda r: copy.copy(r).status_code,
}


def _cookies(response: Any) -> Any:
    jar = requests.cookies.RequestsCookieJar()
    extract_cookies_to_jar(jar, response.request, response.raw)
    return jar.get_dict()


# -- ways of reading, each of which is followed by a look at the state


def some(step: Callable[[Any], Any], count: int = 3) -> Callable[[Any], Any]:
    """The first few results of a step."""
    return lambda response: [step(response) for _ in range(count)]


def until_empty(step: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """All results of a step, joined: how much one of them brings is up to the network."""
    return lambda response: b"".join(iter(lambda: step(response), b""))


def _into(response: Any, size: int) -> bytes:
    buffer = bytearray(size)
    return bytes(buffer[: response.raw.readinto(buffer)])


def _copied(response: Any) -> bytes:
    target = io.BytesIO()
    shutil.copyfileobj(response.raw, target, 100)
    return target.getvalue()


def _decoding(response: Any) -> Any:
    response.raw.decode_content = True
    return response.raw


def _in_with(response: Any) -> Any:
    with response as same:
        return same is response, next(same.iter_content(5))


def _closed(response: Any) -> Any:
    response.close()
    return response.content, list(response.iter_content(3)), list(response.iter_lines())


def _twice(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda response: (read(response), outcome(read, response))


def _pickled(response: Any) -> Any:
    again = pickle.loads(pickle.dumps(response))
    return again.content, again.headers == response.headers, again.raw, again.elapsed > ZERO


ZERO = datetime.timedelta(0)
READS: dict[str, Callable[[Any], Any]] = {
    **{name: attribute(name) for name in PLAIN.split()},
    "json": lambda r: r.json(),
    "iter": list,
    "content twice": _twice(lambda r: r.content),
    "iter_content twice": _twice(lambda r: list(r.iter_content(64))),
    "iter_content behind content": lambda r: (len(r.content), list(r.iter_content(7))),
    "content behind iter_content": lambda r: (next(r.iter_content(9)), r.content),
    **{
        f"iter_content({size}, {decode})": lambda r, size=size, decode=decode: list(
            r.iter_content(size, decode_unicode=decode)
        )
        for size in (1, 7, 128, 4096)
        for decode in (False, True)
    },
    "iter_content()": lambda r: list(r.iter_content()),
    "iter_content(None)": lambda r: b"".join(r.iter_content(None)),
    "iter_content('7')": lambda r: list(r.iter_content("7")),
    **{
        f"iter_lines({size}, {decode}, {mark!r})": lambda r, size=size, decode=decode, mark=mark: (
            list(
                r.iter_lines(
                    size, decode, mark if mark is None or decode is False else mark.decode()
                )
            )
        )
        for size in (1, 13, 512)
        for decode in (False, True)
        for mark in (None, b"\r\n", b"\n", b"3456")
    },
    "with": _in_with,
    "close": _closed,
    "pickle": _pickled,
    "copy": lambda r: copy.copy(r).content,
    "raw.read": _twice(lambda r: r.raw.read()),
    "raw.read(10)": some(lambda r: r.raw.read(10)),
    "raw.read(0)": some(lambda r: r.raw.read(0)),
    "raw.read(10), all": until_empty(lambda r: r.raw.read(10)),
    "raw.read(10, True)": some(lambda r: r.raw.read(10, decode_content=True)),
    "raw.read(1000, True), all": until_empty(lambda r: r.raw.read(1000, decode_content=True)),
    "raw.read(True)": lambda r: r.raw.read(decode_content=True),
    "raw.read(cached)": lambda r: (r.raw.read(cache_content=True), r.raw.data),
    "raw.read1": until_empty(lambda r: r.raw.read1()),
    "raw.read1(10)": until_empty(lambda r: r.raw.read1(10)),
    "raw.read1(True)": until_empty(lambda r: r.raw.read1(decode_content=True)),
    "raw.readinto": some(lambda r: _into(r, 10)),
    "raw.readinto, all": until_empty(lambda r: _into(r, 100)),
    "raw.readline": some(lambda r: r.raw.readline()),
    "raw.readline(5)": some(lambda r: r.raw.readline(5)),
    "raw.readlines": lambda r: r.raw.readlines(),
    "raw.readlines, decoded": lambda r: _decoding(r).readlines(),
    "raw, iterated": lambda r: list(r.raw),
    "raw, next": lambda r: next(r.raw),
    "raw.stream": lambda r: list(r.raw.stream(100)),
    "raw.stream(False)": lambda r: list(r.raw.stream(100, decode_content=False)),
    "raw.stream(None)": lambda r: b"".join(r.raw.stream(None)),
    "raw.read_chunked": lambda r: list(r.raw.read_chunked()),
    "raw.read_chunked(50)": lambda r: list(r.raw.read_chunked(50, decode_content=True)),
    "raw.data": _twice(lambda r: r.raw.data),
    "raw.json": lambda r: r.raw.json(),
    "raw.drain_conn": lambda r: r.raw.drain_conn(),
    "raw.release_conn": lambda r: r.raw.release_conn(),
    "raw.close": lambda r: (r.raw.close(), outcome(lambda r: r.raw.read(), r)),
    "raw.flush": lambda r: r.raw.flush(),
    "raw.seek": lambda r: r.raw.seek(0),
    "raw.write": lambda r: r.raw.write(b""),
    "raw.truncate": lambda r: r.raw.truncate(),
    "raw in with": lambda r: r.raw.__enter__().read(5),
    "raw._fp.read": lambda r: r.raw._fp.read(10),
    "raw._fp.readline": lambda r: r.raw._fp.readline(),
    "raw._fp.read1": lambda r: len(r.raw._fp.read1(10)) > 0,
    "raw._fp.peek": lambda r: len(r.raw._fp.peek(10)) > 0,
    "raw._fp.fp.read": lambda r: r.raw._fp.fp.read(10),
    "raw._fp.fp.readline": lambda r: r.raw._fp.fp.readline(),
    "raw._original_response.read": lambda r: r.raw._original_response.read(),
    "raw._original_response.close": lambda r: r.raw._original_response.close(),
    "copyfileobj": _copied,
    "TextIOWrapper": lambda r: list(io.TextIOWrapper(_decoding(r), "utf-8")),
    "TextIOWrapper.read": lambda r: io.TextIOWrapper(_decoding(r), "utf-8").read(),
    "TextIOWrapper over a buffer": lambda r: (
        io.TextIOWrapper(io.BufferedReader(_decoding(r)), "utf-8").readline()
    ),
    "BufferedReader": lambda r: list(io.BufferedReader(r.raw)),
    "BufferedReader.peek": lambda r: io.BufferedReader(r.raw, 100).peek(10)[:10],
    "csv": lambda r: list(csv.reader(io.TextIOWrapper(_decoding(r), "utf-8"))),
    "json.load": lambda r: json.load(r.raw),
    "GzipFile": lambda r: gzip.GzipFile(fileobj=r.raw).read(),
    "then content": lambda r: (r.raw.read(10, decode_content=True), r.content),
    "then text": lambda r: (r.raw.read(10), r.text),
}


class Outcome(NamedTuple):
    """What a look returned, or the error that it raised."""

    value: Any = None
    error: str | None = None
    cause: str | None = None


def outcome(look: Callable[[Any], Any], response: Any) -> Outcome:
    """Look."""
    try:
        return Outcome(look(response))
    except Exception as error:  # noqa: BLE001  # whatever plain requests raises there
        kinds = [each.__name__ for each in type(error).__mro__]
        text = str(error).split(" at 0x")[0]
        return Outcome(None, f"{kinds[0]}: {text}")
