"""Looks into a response see what plain requests shows, before and after each way of reading."""

from __future__ import annotations

import contextlib
import copy
import csv
import datetime as dt
import functools
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
from requests.adapters import HTTPAdapter
from requests.auth import HTTPDigestAuth
from requests.cookies import extract_cookies_to_jar

from resilient_requests import ResilientAdapter
from resilient_requests.testing import FaultServer, Reply, Send, fin, reset, respond

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from resilient_requests.testing import ReceivedRequest

BODY = b'{"a": "caf\xc3\xa9"}\r\nsecond,"x"\n\nthird\r\n' + b"0123456789\r\n" * 60 + b"end"
JSON = b'{\r\n"a":\n\n[' + b'"0123456789",\r\n' * 60 + b"1]}"
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
    facts: list[Any] = [isinstance(sock, socket.socket), isinstance(sock, ssl.SSLSocket)]
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
PLAIN += " links history headers cookies text content"
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


def _cookies(response: Any) -> Any:
    jar = requests.cookies.RequestsCookieJar()
    extract_cookies_to_jar(jar, response.request, response.raw)
    return jar.get_dict()


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
    "cookies of the original": _cookies,
    "elapsed": lambda r: (type(r.elapsed), 0 < r.elapsed.total_seconds() < 5),
    "request": lambda r: (r.request.method, dict(r.request.headers), r.request.body),
    "connection": lambda r: isinstance(r.connection, requests.adapters.HTTPAdapter),
    "raise_for_status": lambda r: r.raise_for_status(),
    "copy": lambda r: copy.copy(r).status_code,
}


# -- ways of reading, each of which is followed by a look at the state


def some(step: Callable[[Any], Any], count: int = 3) -> Callable[[Any], Any]:
    """The first few results of a step."""
    return lambda response: [step(response) for _ in range(count)]


def until_empty(step: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """All results of a step, joined: how much one of them brings is up to the network."""
    return lambda response: b"".join(iter(lambda: step(response), b""))


def _next(response: Any) -> Any:
    asked = response.next
    return asked and (asked.method, asked.url, asked.body), response.is_permanent_redirect


def _read1(response: Any, size: int | None = None) -> bytes:
    # Behind a decoded body urllib3's raises, since it has changed its mode; ours has not.
    return b"" if response._content_consumed else response.raw.read1(size)


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


def _is_cut_by_coding(response: Any) -> bool:
    """Whether urllib3 cuts the blocks by coded bytes, and each release otherwise."""
    return "Content-Encoding" in response.headers and response.raw.chunked


def blocks(response: Any, size: int = 1, decode: bool = False) -> Any:
    """The items of a loop; only their content where urllib3 cuts them by coded bytes."""
    found = list(response.iter_content(size, decode_unicode=decode))
    return ("" if decode else b"").join(found) if _is_cut_by_coding(response) else found


def lines(response: Any, size: int, decode: bool, mark: bytes | None) -> Any:
    """The items of a loop over lines; but empty ones, where blocks are cut by coded bytes."""
    delimiter = mark.decode() if mark and decode else mark
    found = list(response.iter_lines(size, decode_unicode=decode, delimiter=delimiter))
    return [line for line in found if line] if _is_cut_by_coding(response) else found


def _kept_open(response: Any) -> Any:
    response.raw.auto_close = False  # as urllib3's documentation has it for wrappers
    return _decoding(response)


def _in_with(response: Any) -> Any:
    with response as same:
        return same is response, bool(next(same.iter_content(5), b""))


def _closed(response: Any) -> Any:
    response.close()
    return response.content, list(response.iter_content(3)), list(response.iter_lines())


def _twice(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda response: (read(response), outcome(read, response))


def _pickled(response: Any) -> Any:
    again = pickle.loads(pickle.dumps(response))
    return again.content, again.headers == response.headers, again.raw, again.elapsed > ZERO


ZERO = dt.timedelta(0)
MARKS = (None, b"\r\n", b"\n", b"3456")
READS: dict[str, Callable[[Any], Any]] = {
    **{name: attribute(name) for name in PLAIN.split()},
    "next": _next,
    "json": lambda r: r.json(),
    "iter": lambda r: b"".join(r) if _is_cut_by_coding(r) else list(r),
    "content twice": _twice(lambda r: r.content),
    "iter_content twice": _twice(lambda r: blocks(r, 64)),
    "iter_content behind content": lambda r: (len(r.content), list(r.iter_content(7))),
    "content behind iter_content": lambda r: (next(r.iter_content(9)), r.content),
    **{
        f"iter_content({size}, {decode})": functools.partial(blocks, size=size, decode=decode)
        for size in (1, 7, 128, 4096)
        for decode in (False, True)
    },
    "iter_content()": blocks,
    "iter_content(None)": lambda r: b"".join(r.iter_content(None)),
    "iter_content('7')": lambda r: list(r.iter_content("7")),
    **{
        f"iter_lines({size}, {decode}, {mark!r})": functools.partial(
            lines, size=size, decode=decode, mark=mark
        )
        for size in (1, 13, 512)
        for decode in (False, True)
        for mark in MARKS
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
    "raw.read1": until_empty(_read1),
    "raw.read1(10)": until_empty(lambda r: _read1(r, 10)),
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
    "raw._fp.fp.readline": lambda r: r.raw._fp.fp.readline(5),
    "raw._original_response.read": lambda r: r.raw._original_response.read(),
    "raw._original_response.close": lambda r: r.raw._original_response.close(),
    "copyfileobj": _copied,
    "TextIOWrapper": lambda r: list(io.TextIOWrapper(_decoding(r), "utf-8")),
    "TextIOWrapper.read": lambda r: io.TextIOWrapper(_decoding(r), "utf-8").read(),
    "TextIOWrapper over a buffer": lambda r: io.TextIOWrapper(
        io.BufferedReader(_decoding(r)), "utf-8"
    ).readline(),
    "TextIOWrapper, kept open": lambda r: list(io.TextIOWrapper(_kept_open(r), "utf-8")),
    "BufferedReader": lambda r: list(io.BufferedReader(r.raw)),
    "BufferedReader, kept open": lambda r: list(io.BufferedReader(_kept_open(r))),
    "BufferedReader.peek": lambda r: io.BufferedReader(r.raw, 100).peek(10)[:10],
    "csv": lambda r: list(csv.reader(io.TextIOWrapper(_kept_open(r), "utf-8"))),
    "json.load": lambda r: json.load(r.raw),
    "GzipFile": lambda r: gzip.GzipFile(fileobj=r.raw).read(),
    "then content": lambda r: (r.raw.read(10, decode_content=True), r.content),
    "then text": lambda r: (r.raw.read(10), r.text),
    # The last: what plain requests pools here may bring the next call the rest of this body.
    "raw.release_conn": lambda r: (r.raw.release_conn(), r.content),
}


class Outcome(NamedTuple):
    """What a look returned, or the error that it raised."""

    value: Any = None
    error: str | None = None


def outcome(look: Callable[[Any], Any], response: Any) -> Outcome:
    """Look."""
    try:
        return Outcome(look(response))
    except Exception as error:  # noqa: BLE001  # whatever plain requests raises there
        return Outcome(None, f"{type(error).__name__}: {error}".partition(" at 0x")[0])


# -- other answers, and calls that take several


OTHERS: dict[str, tuple[str, Reply]] = {
    "HEAD": ("HEAD", respond(BODY, headers=HEADERS)),
    "HEAD, chunked": ("HEAD", respond(BODY, headers=HEADERS, framing="chunked")),
    "204": ("GET", respond(status=204, headers=HEADERS)),
    "304": ("GET", respond(status=304, headers=HEADERS)),
    "empty": ("GET", respond(headers=HEADERS)),
    "empty, gzip": ("GET", respond(gzip=True, headers=HEADERS)),
    "500": ("GET", respond(BODY, status=500, reason="Überlast", headers=HEADERS)),
    "401": ("GET", respond(JSON, status=401, headers=[("WWW-Authenticate", "Basic"), *HEADERS])),
    "302": ("GET", respond(BODY, status=302, headers=[("Location", "/next?a=1#b"), *HEADERS])),
    "interim": ("GET", respond(BODY, interim=[100, 100], headers=HEADERS)),
}


def _route(server: FaultServer) -> None:
    """Answer the paths that the journeys take."""
    for status in (301, 302, 303, 307, 308):
        headers = [("Location", f"/end/{status}"), ("Set-Cookie", f"from={status}")]
        server.route(f"/{status}", respond(b"moved", status=status, headers=headers))
        server.route(f"/end/{status}", _echo)
    server.route("/loop", respond(status=302, headers={"Location": "/loop"}))
    server.route("/chain", respond(status=302, headers={"Location": "/301"}))
    server.route("/digest", _digest)
    server.route("/no", respond(b"no", status=404))
    for name, fault in FAULTS.items():
        server.route(f"/{name}", fault)


def _echo(request: ReceivedRequest) -> Reply:
    told = {name: value for name, value in request.headers if name not in ("Host", "Authorization")}
    return respond(json.dumps([request.method, told, request.body.decode()]))


def _digest(request: ReceivedRequest) -> Reply:
    challenge = {"WWW-Authenticate": 'Digest realm="r", nonce="n", qop="auth"'}
    known = (request.header("Authorization") or "").startswith("Digest ")
    return _echo(request) if known else respond(b"who?", status=401, headers=challenge)


FAULTS = {
    "reset": reset(),
    "fin": fin(),
    "no-http": Reply((Send(b"ICY 200 OK\r\n\r\n"),)),
    "head-cut": respond(b"0123456789", cut=("head", 20), ending="fin"),
    "fields": Reply((Send(b"HTTP/1.1 200 OK\r\n" + b"X: 1\r\n" * 200 + b"\r\n"),)),
}


def whole(response: Any) -> Any:
    """All that a journey ends with."""
    told = [(each.status_code, each.url, each.content, each.is_redirect) for each in _all(response)]
    states = [(each.raw.closed, each.raw.tell(), each.elapsed > ZERO) for each in _all(response)]
    cookies = [each.cookies.get_dict() for each in _all(response)]
    asked = [(each.request.method, each.request.url, each.request.body) for each in _all(response)]
    return told, states, cookies, asked


def _all(response: Any) -> list[Any]:
    return [*response.history, response]


def going(method: str, path: str, then: Callable[[Any], Any] = whole, **options: Any) -> Any:
    """A journey of one call."""
    return lambda session, url: then(session.request(method, url + path, timeout=5, **options))


def _digested(method: str, **options: Any) -> Any:
    def ask(session: Any, url: str) -> Any:
        auth = HTTPDigestAuth("me", "secret")  # keeps the challenge that it was given
        return going(method, "/digest", auth=auth, **options)(session, url)

    return ask


def _hooked(session: Any, url: str) -> Any:
    seen: list[Any] = []
    hook = {"response": lambda r, **options: seen.append((r.status_code, sorted(options)))}
    return whole(session.get(url + "/chain", hooks=hook)), seen


def _too_many(session: Any, url: str) -> Any:
    with pytest.raises(requests.TooManyRedirects) as caught:
        session.get(url + "/loop")
    assert caught.value.response is not None
    return str(caught.value), whole(caught.value.response)


def _by_hand(session: Any, url: str) -> Any:
    first = session.get(url + "/chain", allow_redirects=False, stream=True)
    return [
        whole(each)
        for each in session.resolve_redirects(first, first.request, verify=session.verify)
    ]


def _refused_status(session: Any, url: str) -> Any:
    response = session.get(url + "/no")
    try:
        response.raise_for_status()
    except requests.HTTPError as error:
        return str(error), error.response is response, error.request is response.request


def _failed(path: str) -> Any:
    def fail(session: Any, url: str) -> Any:
        try:
            session.post(url + path, data=b"question", timeout=5)
        except requests.RequestException as error:
            kinds = [each.__name__ for each in type(error).__mro__]
            inner = [type(each).__name__ for each in (error.__context__, *error.args)]
            text = str(error).partition(" at 0x")[0]
            return kinds, inner, text, error.request is not None, error.response

    return fail


def _cookies_kept(session: Any, url: str) -> Any:
    session.cookies.clear()
    return whole(session.get(url + "/chain")), session.cookies.get_dict()


JOURNEYS: dict[str, Callable[[Any, str], Any]] = {
    **{
        f"{method} {status}{', streamed' * stream}": going(
            method, f"/{status}", stream=stream, data=data
        )
        for method, data in (("GET", None), ("POST", b"question"), ("HEAD", None))
        for status in (301, 302, 303, 307, 308)
        for stream in (False, True)
    },
    **{
        f"{status}, not followed": going("GET", f"/{status}", _next, allow_redirects=False)
        for status in (301, 302, 303, 307, 308)
    },
    "two of them": going("GET", "/chain"),
    "too many": _too_many,
    "by hand": _by_hand,
    "hooks": _hooked,
    "cookies": _cookies_kept,
    "digest": _digested("GET"),
    "digest, POST": _digested("POST", data="a"),
    "digest, streamed": _digested("GET", stream=True),
    "raise_for_status": _refused_status,
    **{f"error, {name}": _failed(f"/{name}") for name in FAULTS},
}


# -- the differences, and the comparison


class Case(NamedTuple):
    """An answer, and how it is asked for; ``framing`` is empty where there is no body to read."""

    name: str
    reply: Reply
    method: str = "GET"
    framing: str = ""
    coding: str = ""
    streamed: bool = True
    tls: bool = False

    @property
    def is_to_read(self) -> bool:
        """Whether the looks come before the body was read."""
        return self.streamed and bool(self.framing)

    @property
    def has_lines(self) -> bool:
        """Whether a loop over lines shows empty ones that are none."""
        is_coded = self.coding not in ("", "identity")
        return self.is_to_read and not (is_coded and self.framing == "chunked")


class Known(NamedTuple):
    """A difference that is meant; ``like`` returns what must be equal nevertheless."""

    reason: str
    applies: Callable[[Case], bool]
    like: Callable[[Any], Any] = lambda _: None


def _without_empty(told: Any) -> Any:
    return [line for line in told[0].value if line]


def _lines(size: int, applies: Callable[[Case], bool], marks: Any = MARKS) -> dict[str, Known]:
    names = [f"iter_lines({size}, {decode}, {m!r})" for decode in (False, True) for m in marks]
    reason = "requests invents an empty line where a block ends at, or in, a line end"
    return {name: Known(reason, applies, _without_empty) for name in names}


CUT_IN_CRLF = ("chunked", "identity")
KNOWN: dict[str, Known] = {
    "vars": Known("ours has attempts, and the body that its loops share", lambda _: True),
    **_lines(1, lambda case: case.has_lines),
    **_lines(13, lambda case: case.has_lines),
    **_lines(
        512, lambda case: case.has_lines and (case.framing, case.coding) == CUT_IN_CRLF, [None]
    ),
    "with": Known(
        "raw.tell() counts what has come, and we read all that has",
        lambda case: case.is_to_read and case.framing != "chunked",
        lambda told: told[0],
    ),
    "content behind iter_content": Known(
        "requests loses the rest of a chunked body",
        lambda case: case.is_to_read and case.framing == "chunked",
    ),
    "then content": Known(
        "urllib3 takes content for the size of a chunk where read() came first",
        lambda case: case.is_to_read and case.framing == "chunked",
    ),
    "then text": Known(
        "as above; and a body that cannot be decoded closes its connection",
        lambda case: (
            case.is_to_read
            and (
                case.framing == "chunked" or (case.framing == "close" and case.coding != "identity")
            )
        ),
    ),
}
KNOWN_JOURNEYS = {
    "POST 307, streamed": "a streamed POST has an Idempotency-Key",
    "POST 308, streamed": "a streamed POST has an Idempotency-Key",
    "error, head-cut": "requests takes a cut head for a whole answer without a body",
}
CASES = [
    Case(f"{framing}-{coding}", body_of(framing, coding), "GET", framing, coding)
    for framing in ("length", "chunked", "close")
    for coding in CODED
]
OTHER_CASES = [
    Case(name, reply, method, "length" if name in ("500", "401", "interim") else "")
    for name, (method, reply) in OTHERS.items()
]
TLS_CASES = [each._replace(name=f"{each.name}-tls", tls=True) for each in CASES]
ALL = [
    *CASES,
    *TLS_CASES,
    *[each._replace(name=f"{each.name}-buffered", streamed=False) for each in CASES],
    *OTHER_CASES,
    *[each._replace(name=f"{each.name}-buffered", streamed=False) for each in OTHER_CASES],
]


@contextlib.contextmanager
def both(server: FaultServer) -> Iterator[list[requests.Session]]:
    """A session of plain requests, and one of ours."""
    with requests.Session() as plain, requests.Session() as ours:
        for session, adapter in ((plain, HTTPAdapter()), (ours, ResilientAdapter())):
            session.mount(server.url, adapter)
            session.verify = server.ca_path or True
            session.trust_env = False
        yield [plain, ours]


def looks_of(case: Case, session: requests.Session, url: str) -> dict[str, tuple[Outcome, Outcome]]:
    """What each look sees, and the state that it leaves."""
    ask = functools.partial(
        session.request, case.method, url, stream=case.streamed, timeout=5, allow_redirects=False
    )
    with ask() as response:
        seen = {name: (outcome(look, response), Outcome()) for name, look in FACTS.items()}
    for name, look in READS.items():
        # Whoever reads past the framing waits for bytes that do not come.
        if case.framing or not name.startswith("raw._fp."):
            with contextlib.closing(ask()) as response:
                seen[name] = outcome(look, response), outcome(state, response)
    return seen


# Plain requests leaves some sockets to the collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=case.name, marks=[pytest.mark.slow] * (case in TLS_CASES[:-1]))
        for case in ALL
    ],
)
def test_a_response_looks_as_with_plain_requests(
    case: Case, fault_server_factory: Callable[..., FaultServer]
) -> None:
    """All that other packages look at, before and after each way of reading."""
    server = fault_server_factory(default=case.reply, tls=case.tls)
    with both(server) as sessions:
        theirs, ours = (looks_of(case, session, server.url) for session in sessions)
    differing = {name for name in theirs if theirs[name] != ours[name]}
    known = {name for name, each in KNOWN.items() if each.applies(case)}

    assert {name: (theirs[name], ours[name]) for name in differing - known} == {}
    assert known - differing == set(), "known differences that have vanished"
    for name in known:
        assert KNOWN[name].like(theirs[name]) == KNOWN[name].like(ours[name]), name


def test_calls_in_several_steps_look_as_with_plain_requests(server: FaultServer) -> None:
    """Redirects, authentication, hooks, cookies and errors."""
    _route(server)
    with both(server) as (plain, ours):
        differing = {
            name
            for name, journey in JOURNEYS.items()
            if journey(plain, server.url) != journey(ours, server.url)
        }

    assert differing == KNOWN_JOURNEYS.keys()


def test_there_are_many_comparisons() -> None:
    """Each is a look at one response."""
    assert len(ALL) * (len(FACTS) + len(READS)) > 5000
