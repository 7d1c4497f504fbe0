"""The head of a request is, byte for byte, the one that http.client would write."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from requests.adapters import HTTPAdapter
from urllib3.util import SKIP_HEADER

from resilient_requests import ResilientAdapter

if TYPE_CHECKING:
    from collections.abc import Iterator

BODY = b"{}"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Recorder:
    """Answers each request, and keeps its bytes as they came."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/"
        self.heads: list[bytes] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        """Accept no more, and wait for the connections, which their clients have closed."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                conn, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(conn,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, conn: socket.socket) -> None:
        data = b""
        with conn:
            while got := conn.recv(65536):
                data += got
                if data.endswith(b"\r\n\r\n" + BODY):
                    self.heads.append(data)
                    data = b""
                    conn.sendall(ANSWER)


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    """A recorder that has not yet been asked for anything."""
    recorder = Recorder()
    yield recorder
    recorder.close()


@pytest.fixture
def sessions(recorder: Recorder) -> Iterator[list[requests.Session]]:  # closed before it
    """A session with requests' adapter, and one with ours."""
    with requests.Session() as plain, requests.Session() as ours:
        plain.mount("http://", HTTPAdapter())
        ours.mount("http://", ResilientAdapter())
        yield [plain, ours]


def outcome(session: requests.Session, recorder: Recorder, fields: dict[Any, Any]) -> object:
    """Return the bytes that came, or the error."""
    request = session.prepare_request(requests.Request("POST", recorder.url, data=BODY))
    # Past the checks of requests: other code writes here, too.
    request.headers.update(fields)
    recorder.heads.clear()
    try:
        session.send(request, timeout=5)
    except Exception as error:  # noqa: BLE001  # it is compared
        return type(error), str(error), recorder.heads
    return [*recorder.heads]


@pytest.mark.parametrize(
    "fields",
    [
        {"X-Plain": "value"},
        {"X-Empty": ""},
        {"X-Tab": "a\tb"},
        {"X-Latin": "caf\xe9 \xff"},
        {"X-Space": "  value  "},
        {"X-Beyond": "\u20ac"},
        {"X-N\xe9": "value"},
        {"X Space": "value"},
        {"X-Colon:": "value"},
        {"X: y": "value"},
        {"X: ": ""},
        {" X-First": "value"},
        {"": "value"},
        {"X-Folded": "a\r\n b"},
        {"X-Split": "a\r\nEvil: b"},
        {"X-LF": "a\nb"},
        {"X-CR": "a\rb"},
        {"X-NUL": "a\x00b"},
        {"X-DEL": "a\x7fb"},
        {"X-Bytes": b"value"},
        {b"X-Name": "value"},
        {"X-Number": 7},
        {"User-Agent": SKIP_HEADER},
        {"Accept-Encoding": SKIP_HEADER},
        {"X-Skipped": SKIP_HEADER},
        {"Host": "example.com"},
        {"Accept-Encoding": "identity"},
        {"Content-Length": "2"},
        {"Transfer-Encoding": "gzip"},
    ],
    ids=str,
)
def test_a_field_is_written_as_by_requests(
    sessions: list[requests.Session], recorder: Recorder, fields: dict[Any, Any]
) -> None:
    """Also those that http.client refuses, and those that it writes in its own way."""
    plain, ours = (outcome(each, recorder, fields) for each in sessions)

    assert ours == plain


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.text(st.characters(max_codepoint=0x100), max_size=8)
    | st.text(st.sampled_from(": \t\r\nx@\x7f\xe9"), max_size=4),
    value=st.text(st.characters(max_codepoint=0x100), max_size=12),
)
def test_any_field_is_written_as_by_requests(
    sessions: list[requests.Session], recorder: Recorder, name: str, value: str
) -> None:
    """A name or value that only one of them takes would be a way to smuggle a field in."""
    plain, ours = (outcome(each, recorder, {f"X{name}": value}) for each in sessions)

    assert ours == plain
