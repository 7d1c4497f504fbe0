"""One connection of a probe: dialled like requests' own, left idle, checked, used once more."""

from __future__ import annotations

import enum
import http.client
import re
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
import urllib3.exceptions
from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies, select_proxy
from urllib3.util.wait import wait_for_read

from resilient_requests.call import describe, now
from resilient_requests.cli._arguments import UsageError, web_url
from resilient_requests.cli._output import in_words
from resilient_requests.cli.probe._addresses import Dialled, measured, place_of
from resilient_requests.transport import TLSContexts, parse_hint, socket_options

if TYPE_CHECKING:
    from collections.abc import Iterable

    from typing_extensions import Self

    from resilient_requests.cli.probe._addresses import Address
    from resilient_requests.transport import TCPKeepAlive

__all__ = ["BROKEN", "Facts", "Finding", "ProbeConnection", "Result", "Target"]

BROKEN = (OSError, http.client.HTTPException, urllib3.exceptions.HTTPError)
_CONNECT = 10.0
_FIRST_ANSWER = 15.0
_MOST = 1 << 20  # of a body that must be read before the connection can be used again
_NOW = getattr(socket, "MSG_DONTWAIT", 0)
# Up to the last "@", because a password may hold one too.
_USERINFO = re.compile(r"^([\w+.-]+://)?.*@")


class Result(str, enum.Enum):
    """The fate of an idle connection; the values are for people and for JSON."""

    REUSED = "reused"
    CLOSED = "closed by the peer"  # a FIN, seen before use
    RESET_IDLE = "reset while idle"  # seen before use, too
    RESET = "reset on reuse"
    BLACK_HOLE = "black hole"
    CONTROL_FAILED = "control failed"  # a fresh connection failed as well
    NOT_KEPT = "not kept"  # the server ends each connection after one answer
    NOT_OPENED = "not opened"


@dataclass(frozen=True, kw_only=True)
class Facts:
    """The facts from a fresh connection and its first answer; durations in seconds."""

    address: str
    tls: str | None
    http: str
    connect: float
    request: float
    status: int
    hint: float | None
    is_kept: bool


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The fate of an idle connection: the result, the error, and the duration of its use.

    ``after``: seconds from the second request to its answer or its failure.
    """

    result: Result
    after: float = 0.0
    error: str | None = None


class Target:
    """A URL with a method and headers, and the way to it; immutable, used from any thread.

    The way is that of requests: the same proxies, the same trust. The caller owns the connections;
    nothing is pooled. Raises UsageError for a URL that is not HTTP, and for a proxy that cannot be
    used.
    """

    def __init__(
        self, url: str, method: str = "GET", headers: Iterable[tuple[str, str]] = ()
    ) -> None:
        url = web_url(url, default_scheme="https")
        fields = {"User-Agent": "resilient-requests-probe"}
        self.request = requests.Request(method, url, headers=fields).prepare()
        self.request.headers.update(headers)
        parts = urlsplit(url)
        self.method = method
        self.is_tls = parts.scheme == "https"
        self.host = parts.hostname or ""
        self.port = parts.port or (443 if self.is_tls else 80)
        proxies = get_environ_proxies(url)
        with requests.Session() as session:
            settings = session.merge_environment_settings(url, {}, None, None, None)
        self.verify = settings["verify"]
        self._proxy = select_proxy(url, proxies)
        self._adapter = HTTPAdapter()
        try:
            self._pool: Any = self._adapter.get_connection_with_tls_context(
                self.request, self.verify, proxies=proxies
            )
        except (requests.RequestException, ValueError) as error:
            raise UsageError(in_words(error)) from None
        if not (self._proxy or "").lower().startswith("socks"):  # PySocks dials by itself
            base = self._pool.ConnectionCls
            self._pool.ConnectionCls = type(base.__name__, (Dialled, base), {})
        self._path = self._adapter.request_url(self.request, proxies)
        self._contexts = TLSContexts()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._adapter.close()

    def __str__(self) -> str:
        """Where it is, without path, query and credentials."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        way = "" if self.proxy is None else f" through {self.proxy}"
        return f"{'https' if self.is_tls else 'http'}://{host}:{self.port}{way}"

    @property
    def proxy(self) -> str | None:
        """The proxy in use, without its credentials; None where there is none."""
        return None if self._proxy is None else _USERINFO.sub(r"\1", self._proxy)

    def addresses(self) -> list[Address]:
        """Return the addresses to dial: those of the proxy if there is one.

        The list is empty if the name cannot be resolved; a dial reports the reason.
        """
        place = (self.host, self.port) if self._proxy is None else place_of(self._proxy)
        try:
            return measured(*place)
        except BROKEN:
            return []

    @property
    def trust(self) -> str:
        """Where the trusted certificates come from."""
        return "certifi" if self.verify is True else str(self.verify)

    def dial(self, timeout: float, socket_options: Any = None) -> Any:
        """Return a new, open connection of urllib3's; the options replace urllib3's own."""
        conn = self._pool._new_conn()
        conn.timeout = timeout
        if socket_options is not None:
            conn.socket_options = socket_options
        vars(conn).update(self._contexts.settings(conn))
        if self.is_tls and self._pool.proxy is not None:
            self._pool._prepare_proxy(conn)
        else:
            conn.connect()
        return conn

    def ask(self, conn: Any) -> None:
        """Send the request on an open connection, in one piece."""
        headers = dict(self.request.headers)
        if self._pool.proxy is not None and not self.is_tls:
            headers.update(self._pool.proxy_headers)
        conn.request(
            self.method, self._path, headers=headers, preload_content=False, decode_content=False
        )


class ProbeConnection:
    """One keep-alive connection; used by one thread, except for ``abandon``.

    ``keepalive``: settings for TCP keep-alive; None leaves it off.
    """

    def __init__(self, target: Target, keepalive: TCPKeepAlive | None = None) -> None:
        self._target = target
        self._options = None if keepalive is None else socket_options(keepalive)
        self._conn: Any = None
        self._twin: socket.socket | None = None

    def open(self) -> Facts:
        """Dial, and make the first request. Raises any of ``BROKEN``."""
        since = now()
        self._conn = conn = self._target.dial(_CONNECT, self._options)
        connect = since.age(now())
        # TLS hides the state of the TCP connection: a FIN, a reset, nothing.
        self._twin = socket.fromfd(conn.sock.fileno(), socket.AF_INET, socket.SOCK_STREAM)
        tls = getattr(conn.sock, "version", lambda: None)()
        address = conn.sock.getpeername()[0]
        conn.timeout = _FIRST_ANSWER
        conn.sock.settimeout(_FIRST_ANSWER)
        since = now()
        self._target.ask(conn)
        response = self._read(_FIRST_ANSWER)
        return Facts(
            address=address,
            tls=tls,
            http={10: "HTTP/1.0", 11: "HTTP/1.1"}.get(response.version, f"HTTP {response.version}"),
            connect=connect,
            request=since.age(now()),
            status=response.status,
            hint=parse_hint(response.headers.get("Keep-Alive")),
            is_kept=conn.sock is not None,
        )

    def _read(self, limit: float) -> Any:
        """Read an answer; close the connection if the answer exceeds the limits."""
        response, left, since = self._conn.getresponse(), _MOST, now()
        while data := response.read1(65536, decode_content=False):
            left -= len(data)
            if left <= 0 or since.age(now()) > limit:
                self._conn.close()
                break
        response.close()
        return response

    def look(self) -> Finding | None:
        """Return the events of the idle time; None if there were none."""
        assert self._twin is not None
        if not wait_for_read(self._twin, timeout=0):
            return None
        try:
            is_end = not self._twin.recv(1, socket.MSG_PEEK | _NOW) or self._is_farewell()
            return Finding(result=Result.CLOSED, error=None if is_end else "unsolicited bytes")
        except (BlockingIOError, ssl.SSLWantReadError):
            return None
        except OSError as error:
            return Finding(result=Result.RESET_IDLE, error=describe(error))

    def _is_farewell(self) -> bool:
        """Return whether the bytes that have arrived are TLS's close_notify.

        Raises SSLWantReadError for records without content, such as session tickets.
        """
        sock = self._conn.sock
        if not isinstance(sock, ssl.SSLSocket):
            return False
        sock.settimeout(0)
        return not sock.recv(1)

    def reuse(self, limit: float) -> Finding:
        """Make the second request, and wait at most ``limit`` seconds for its answer."""
        conn, since = self._conn, now()
        conn.timeout = limit
        conn.sock.settimeout(limit)
        try:
            self._target.ask(conn)
            self._await_byte(limit)
            self._read(limit)
        except (_Left, http.client.RemoteDisconnected):
            # The FIN crossed the request: the server closed by its own policy.
            finding = Finding(result=Result.CLOSED, error="while the request was sent")
        except BROKEN as error:
            result = Result.BLACK_HOLE if _is_silence(error) else Result.RESET
            finding = Finding(result=result, error=describe(error))
        else:
            finding = Finding(result=Result.REUSED)
        return Finding(result=finding.result, error=finding.error, after=since.age(now()))

    def _await_byte(self, limit: float) -> None:
        """Wait for the answer's first byte. Raises TimeoutError, OSError and _Left."""
        # This bypasses TLS: some versions of OpenSSL report a reset as an end.
        assert self._twin is not None
        if not wait_for_read(self._twin, timeout=limit):
            raise TimeoutError("timed out")
        # A reset behind a FIN reads as an end: the peer closed before it saw the request.
        if not self._twin.recv(1, socket.MSG_PEEK | _NOW):
            raise _Left

    def abandon(self) -> None:
        """End a wait for this connection; from any thread."""
        if self._twin is not None:
            with suppress(OSError):
                self._twin.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close it; harmless when repeated."""
        if self._conn is not None:
            self._conn.close()
        if self._twin is not None:
            self._twin.close()


class _Left(Exception):
    """The peer had closed the connection before it saw the request."""


def _is_silence(error: BaseException) -> bool:
    # ETIMEDOUT means silence too: nobody acknowledged keep-alive probes, or data.
    return isinstance(error, (TimeoutError, urllib3.exceptions.TimeoutError))
