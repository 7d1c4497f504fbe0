"""One call and the next one on the same adapter: by ours, by plain requests, and by http.client."""

from __future__ import annotations

import functools
import http.client
import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import brotli  # type: ignore[import-untyped]
import requests
import urllib3.exceptions
from driven_network import Script
from requests.adapters import HTTPAdapter

from fuzzing import contents
from resilient_requests import ResilientAdapter, RetryPolicy, Timeouts, iter_bytes, iter_events

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from driven_network import Ending, Network

    from fuzzing.cases import Case

LIMIT = 5.0  # seconds that nobody waits for: the network knows when nothing will come
ERRORS = (requests.RequestException,)
# urllib3 itself lets an error of brotli through where the coding ends in mid-chunk.
RAW_ERRORS = (*ERRORS, urllib3.exceptions.HTTPError, brotli.error)


@dataclass(frozen=True)
class Way:
    """One way to read a response.

    ``is_raw``: urllib3's object reads it, with its own decoding and errors. ``expect`` turns the
    content into the pieces that must come; None means bytes in any pieces. ``plain`` is the way of
    plain requests that does the same, if its name differs.
    """

    read: Callable[[requests.Response], Iterator[Any]]
    stream: bool = True
    is_raw: bool = False
    is_decoded: bool = True
    expect: Callable[[bytes], list[Any]] | None = None
    plain: str | None = None


class _Once:
    """An iterator over one result, which is asked for again where it has failed."""

    def __init__(self, read: Callable[[], Any]) -> None:
        self._read = read
        self._is_done = False

    def __iter__(self) -> _Once:
        return self

    def __next__(self) -> Any:
        if self._is_done:
            raise StopIteration
        result = self._read()
        self._is_done = True
        return result


def _once(read: Callable[[requests.Response], Any]) -> Callable[[requests.Response], Iterator[Any]]:
    return lambda response: _Once(lambda: read(response))


def _until_empty(read: Callable[[requests.Response], bytes]) -> Callable[[Any], Iterator[bytes]]:
    return lambda response: iter(lambda: read(response), b"")


def _events(response: requests.Response) -> Iterator[Any]:
    response.headers["Content-Type"] = "text/event-stream"
    return map(tuple, iter_events(response))


WAYS: dict[str, Way] = {
    "content": Way(_once(lambda response: response.content), stream=False),
    "streamed content": Way(_once(lambda response: response.content)),
    "iter_content(1)": Way(lambda response: response.iter_content(1)),
    "iter_content(7)": Way(lambda response: response.iter_content(7)),
    "iter_content(1000)": Way(lambda response: response.iter_content(1000)),
    "iter_content(None)": Way(lambda response: response.iter_content(None)),
    "iter_lines": Way(lambda response: response.iter_lines(), expect=bytes.splitlines),
    "iter_bytes": Way(iter_bytes, plain="iter_content(None)"),
    "iter_events": Way(_events, expect=contents.flushed_events, plain="content"),
    "raw.read()": Way(_once(lambda each: each.raw.read()), is_raw=True, is_decoded=False),
    "raw.read(decoded)": Way(_once(lambda each: each.raw.read(decode_content=True)), is_raw=True),
    "raw.read(7)": Way(_until_empty(lambda each: each.raw.read(7)), is_raw=True, is_decoded=False),
    "raw.read1(7)": Way(
        _until_empty(lambda each: each.raw.read1(7, decode_content=True)), is_raw=True
    ),
    "raw.stream(coded)": Way(
        lambda each: each.raw.stream(7, decode_content=False), is_raw=True, is_decoded=False
    ),
    "raw.stream": Way(lambda each: each.raw.stream(7, decode_content=True), is_raw=True),
}


@dataclass
class Outcome:
    """The result of a call: its head, its pieces, and the error that ended it."""

    status: int | None = None
    fields: list[tuple[str, str]] = field(default_factory=list)
    pieces: list[Any] = field(default_factory=list)
    # The class of an error, and not the error: its traceback would keep the connection.
    error: type[BaseException] | None = None
    message: str = ""
    again: type[BaseException] | None = None  # of the error that a reader raises when asked again

    @property
    def content(self) -> bytes:
        """All that was read, where that is bytes."""
        return b"".join(self.pieces)

    def __repr__(self) -> str:
        shown = repr(self.pieces)
        shown = shown if len(shown) < 400 else f"{shown[:400]}..."
        error = "" if self.error is None else f" {self.error.__name__}: {self.message}"
        return f"<{self.status} {shown}{error}>"

    def fail(self, error: BaseException) -> None:
        """Note the error that ended the call."""
        self.error, self.message = type(error), str(error)


@dataclass
class Run:
    """A call, the next one on the same adapter, and the server's view of both."""

    outcome: Outcome
    following: Outcome
    requests: int
    connections: int
    left_open: int
    in_flight: int


def run(network: Network, case: Case, *, plain: bool = False) -> Run:
    """Make a call that is answered as the case has it, and another one."""
    network.forget()
    network.is_halved = case.is_halved
    network.script.append(Script(case.pieces, case.ending))
    # Without a session: it takes as long as all the rest, and has nothing to do with the bytes.
    adapter = HTTPAdapter() if plain else _adapter()
    way = WAYS[case.way]
    way = WAYS[way.plain] if plain and way.plain is not None else way
    outcome = _call(adapter, network, case.method, way, "/first")
    network.flush()
    following = _call(adapter, network, "GET", WAYS["content"], "/second")
    in_flight = adapter.stats().in_flight if isinstance(adapter, ResilientAdapter) else 0
    counts = len(network.requests), len(network.connections)
    adapter.close()
    return Run(outcome, following, *counts, network.left_open(), in_flight)


def _adapter() -> ResilientAdapter:
    limits = Timeouts(connect=LIMIT, write=LIMIT, response=LIMIT, idle=LIMIT)
    return ResilientAdapter(max_retries=RetryPolicy(max_retries=0), timeouts=limits)


def _call(adapter: HTTPAdapter, network: Network, method: str, way: Way, path: str) -> Outcome:
    outcome = Outcome()
    pieces: Iterator[Any] = iter(())
    verify = network.ca_path or True
    try:
        request = _request(method, network.url + path)
        response = adapter.send(request, stream=way.stream, timeout=LIMIT, verify=verify)
        outcome.status = response.status_code
        outcome.fields = list(response.raw.headers.items())
        try:
            pieces = way.read(response)
            outcome.pieces.extend(pieces)
        finally:
            if way.is_raw:  # urllib3 leaves it to its user
                response.close()
    except Exception as error:  # noqa: BLE001  # the judge says which may come
        outcome.fail(error)
        outcome.again = _asked_again(pieces)
    return outcome


@functools.cache
def _request(method: str, url: str) -> requests.PreparedRequest:
    return requests.Request(method, url, data=b"question" if method == "POST" else None).prepare()


def _asked_again(pieces: Iterator[Any]) -> type[BaseException] | None:
    try:
        next(pieces)
    except StopIteration:
        return None
    except Exception as error:  # noqa: BLE001  # the judge compares it
        return type(error)
    return None


# -- http.client -----------------------------------------------------------------------------------


class _Wire(io.RawIOBase):
    """The bytes of a server, and the end of its connection."""

    def __init__(self, data: bytes, ending: Ending) -> None:
        self._data = data
        self._ending = ending

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._data and self._ending in {"open", "reset"}:
            raise TimeoutError("timed out")
        piece, self._data = self._data[: len(buffer)], self._data[len(buffer) :]
        buffer[: len(piece)] = piece
        return len(piece)

    def makefile(self, mode: str) -> io.BufferedReader:  # http.client's "rb"
        """Return the file object that http.client asks a socket for."""
        return io.BufferedReader(self)


class _Response(http.client.HTTPResponse):
    """http.client's, but for two readings of its own that everybody above it mends."""

    def _read_status(self) -> tuple[str, int, str]:
        version, status, reason = super()._read_status()  # type: ignore[misc]
        # RFC 9110 15.2: it takes 102 and above for final answers.
        return version, 100 if 102 <= status < 200 else status, reason

    def begin(self) -> None:
        super().begin()
        # RFC 9110 5.6.1: it leaves white space in, and knows no lists. As urllib3 looks at them.
        names = ",".join(self.headers.get_all("Transfer-Encoding", [])).lower().split(",")
        if "chunked" in map(str.strip, names):
            self.chunked, self.chunk_left, self.length = True, None, None


def by_http_client(case: Case, method: str | None = None) -> Outcome:
    """Read the bytes of a case with http.client; pieces are without framing, and still coded.

    ``method`` reads pieces of at most 7 bytes, which remain after an error; None reads all at once.
    """
    outcome = Outcome()
    wire: Any = _Wire(case.data, case.ending)
    response = _Response(wire, method=case.method)
    try:
        response.begin()
        outcome.status, outcome.fields = response.status, response.getheaders()
        # RFC 9112 6.3: these have no body; http.client looks for chunks there.
        is_bodiless = case.method == "HEAD" or response.status in {101, 204, 304}
        if is_bodiless or method is None:
            outcome.pieces.append(b"" if is_bodiless else response.read())
        else:
            read = getattr(response, method)
            outcome.pieces.extend(iter(lambda: read(7), b""))
    except Exception as error:  # noqa: BLE001  # any is a refusal
        outcome.fail(error)
    finally:
        response.close()
    return outcome
