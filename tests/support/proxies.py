"""Small forward proxies on loopback: HTTP with CONNECT, and SOCKS5."""

from __future__ import annotations

import select
import socket
import struct
import threading
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Literal, NoReturn
from urllib.parse import urlsplit

from resilient_requests.testing._listener import Listener
from resilient_requests.testing._request import Body, Head, parse_fields, read_head
from resilient_requests.testing._wire import Ended, Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType

    from typing_extensions import Self

Fault = Literal["reset", "fin", "silence"]


class _Proxy:
    """The parts common to both kinds: counting, faults and tunnels.

    Each wish to connect uses up an item of ``connect_status`` and ``connect_fault``; None, or no
    item left, is a normal answer. Bytes on a connection idle for more than ``idle_limit`` seconds
    get a reset or, with "drop", vanish for good. ``patience`` bounds every wait, in seconds. State:
    the counts, guarded by a condition.
    """

    scheme = ""

    def __init__(
        self,
        *,
        connect_status: Iterable[int | None] = (),
        connect_fault: Iterable[Fault | None] = (),
        idle_limit: float | None = None,
        idle_fault: Literal["reset", "drop"] = "reset",
        patience: float = 30.0,
    ) -> None:
        self._statuses = deque(connect_status)
        self._faults = deque(connect_fault)
        self._idle_limit = idle_limit
        self._idle_fault = idle_fault
        self._forgot_at = 0.0
        self._changed = threading.Condition()
        self._targets: list[str] = []
        self._heads: list[Head] = []
        self._accepted = self._swallowed = self._open = 0
        self._listener = Listener(self._accept, patience=patience)
        self.host = "127.0.0.1"
        self.port = self._listener.port
        self.url = f"{self.scheme}://{self.host}:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all connections and join all threads; idempotent."""
        self._listener.close()

    @property
    def accepted(self) -> int:
        """Connections accepted from clients."""
        with self._changed:
            return self._accepted

    @property
    def connects(self) -> int:
        """How often a client wished to be connected, refusals included."""
        with self._changed:
            return len(self._targets)

    @property
    def targets(self) -> tuple[str, ...]:
        """Where clients wished to be connected to, as ``host:port``."""
        with self._changed:
            return tuple(self._targets)

    @property
    def requests(self) -> int:
        """Requests that were forwarded one by one, not through a tunnel."""
        with self._changed:
            return sum(1 for head in self._heads if head.method != "CONNECT")

    @property
    def heads(self) -> tuple[Head, ...]:
        """The heads of all requests to the proxy itself, CONNECT included."""
        with self._changed:
            return tuple(self._heads)

    @property
    def swallowed(self) -> int:
        """How often something came on a connection idle beyond the limit."""
        with self._changed:
            return self._swallowed

    @property
    def open_connections(self) -> int:
        """Clients that are connected."""
        with self._changed:
            return self._open

    def wait_for(self, predicate: Callable[[Self], bool], timeout: float = 5.0) -> bool:
        """Whether the predicate came true in time; asked anew at each change."""
        with self._changed:
            return self._changed.wait_for(lambda: predicate(self), timeout)

    def forget(self) -> None:
        """Forget all used connections: bytes on them count as beyond the limit from now on."""
        self._forgot_at = time.monotonic()

    def _accept(self, wire: Wire) -> Callable[[], None]:
        with self._changed:
            self._accepted += 1
            self._open += 1
            self._changed.notify_all()
        return lambda: self._run(wire)

    def _run(self, wire: Wire) -> None:
        try:
            with suppress(Ended), wire.sock:
                self._serve(wire)
        finally:
            with self._changed:
                self._open -= 1
                self._changed.notify_all()

    def _serve(self, client: Wire) -> None:
        raise NotImplementedError

    def _wish(self, client: Wire, target: str) -> int | None:
        """Record a wish to connect and play its fault; return the status of a refusal, or None."""
        with self._changed:
            self._targets.append(target)
            self._changed.notify_all()
            fault = self._faults.popleft() if self._faults else None
            status = self._statuses.popleft() if self._statuses else None
        if fault is not None:
            {"reset": client.reset, "fin": client.fin, "silence": client.silence}[fault]()
        return status

    def _dial(self, client: Wire, host: str, port: int) -> Wire:
        sock = socket.create_connection((host.strip("[]"), port), timeout=client.patience)
        return Wire(sock, self._listener.stop, client.patience)

    def _check_idle(self, client: Wire, since: float, used_at: float) -> None:
        is_young = self._idle_limit is None or time.monotonic() - since <= self._idle_limit
        if is_young and used_at >= self._forgot_at:
            return
        with self._changed:
            self._swallowed += 1
            self._changed.notify_all()
        if self._idle_fault == "reset":
            client.reset()
        client.black_hole()

    def _tunnel(self, client: Wire, server: Wire) -> None:
        """Carry bytes both ways, and each side's end to the other, until both have ended."""
        server.send(bytes(client.buffer))
        peers = {client: server, server: client}
        since = time.monotonic()
        while peers:
            for wire in _readable(peers, self._listener.stop, client.patience):
                try:
                    data = wire.receive()
                except Ended as end:
                    if end.how == "reset":
                        peers[wire].reset()
                    with suppress(OSError):
                        peers[wire].sock.shutdown(socket.SHUT_WR)
                    del peers[wire]
                    continue
                if wire is client:
                    self._check_idle(client, since, since)
                since = time.monotonic()
                peers[wire].send(data)


def _readable(wires: Iterable[Wire], stop: socket.socket, seconds: float) -> Iterator[Wire]:
    poller = select.poll()
    for sock in (*(wire.sock for wire in wires), stop):
        poller.register(sock, select.POLLIN)
    ready = dict(poller.poll(int(seconds * 1000)))
    if not ready or stop.fileno() in ready:
        raise Ended("fin", "server")
    return iter([wire for wire in wires if wire.sock.fileno() in ready])


class HTTPProxy(_Proxy):
    """Forwards requests in absolute form over a kept connection; tunnels after CONNECT.

    ``connect_status`` are the HTTP statuses that refuse CONNECT; ``connected`` grants it.
    """

    scheme = "http"
    connected = "200 Connection established"

    def _serve(self, client: Wire) -> None:
        used_at = time.monotonic()
        while True:
            since = time.monotonic()
            if not client.buffer and not client.fill():
                client.fin()
            self._check_idle(client, since, used_at)
            head = read_head(client)
            used_at = (
                time.monotonic()
            )  # and not when it was answered: the client has moved on by then
            with self._changed:
                self._heads.append(head)
                self._changed.notify_all()
            if head.method == "CONNECT":
                self._connect(client, head.target)
            else:
                self._forward(client, head)
            if head.wants_close:
                client.fin()

    def _connect(self, client: Wire, target: str) -> None:
        status = self._wish(client, target)
        host, _, port = target.rpartition(":")
        if status is not None:
            return _answer(client, status)
        try:
            server = self._dial(client, host, int(port))
        except OSError:
            return _answer(client, 502)
        with server.sock:
            client.send(f"HTTP/1.1 {self.connected}\r\n\r\n".encode())
            self._tunnel(client, server)
        raise Ended("fin", "server")

    def _forward(self, client: Wire, head: Head) -> None:
        url = urlsplit(head.target)
        body = Body(client, head)
        pieces = b"".join(iter(body.read, b""))
        try:
            server = self._dial(client, url.hostname or "", url.port or 80)
        except OSError:
            return _answer(client, 502)
        with server.sock:
            target = url._replace(scheme="", netloc="").geturl() or "/"
            server.send(_request(head, target, pieces))
            try:
                _relay_response(server, client, head.method)
            except Ended as end:
                if end.by == "peer" and end.how == "reset":
                    client.reset()
                client.fin()


_HOP_BY_HOP = frozenset(
    {"connection", "proxy-connection", "proxy-authorization", "transfer-encoding", "content-length"}
)


def _request(head: Head, target: str, body: bytes) -> bytes:
    fields = [(name, value) for name, value in head.headers if name.lower() not in _HOP_BY_HOP]
    fields += [("Content-Length", str(len(body)))] if head.has_body or head.method != "GET" else []
    lines = [
        f"{head.method} {target} HTTP/1.1",
        *(f"{name}: {value}" for name, value in fields),
        "",
        "",
    ]
    return "\r\n".join(lines).encode("latin-1") + body


def _relay_response(server: Wire, client: Wire, method: str) -> None:
    """Pass on a response as it comes; one without a length ends the client's connection too."""
    status = 100
    while status < 200:
        raw = server.take_until(b"\r\n\r\n")
        client.send(raw)
        first, *lines = raw.decode("latin-1").split("\r\n")
        status = int(first.split()[1])
    head = Head(method, "", "HTTP/1.1", parse_fields(lines))
    if method == "HEAD" or status in {204, 304}:
        return
    if not head.has_body and head.header("Content-Length") is None:
        while True:
            client.send(server.take(1 << 16))
    body = Body(server, head)
    while piece := body.read():
        client.send(b"%x\r\n%b\r\n" % (len(piece), piece) if head.chunked else piece)
    if head.chunked:
        client.send(b"0\r\n\r\n")


def _answer(client: Wire, status: int) -> None:
    client.send(f"HTTP/1.1 {status} Refused\r\nContent-Length: 0\r\n\r\n".encode())


class SOCKS5Proxy(_Proxy):
    """CONNECT without authentication, to IPv4 or a name; ``connect_status`` are reply codes."""

    scheme = "socks5h"
    greeting = b"\x05\x00"

    def _serve(self, client: Wire) -> None:
        _, methods = _exactly(client, 2)
        _exactly(client, methods)
        client.send(self.greeting)
        *_, kind = _exactly(client, 4)
        address = _exactly(client, 4 if kind == 1 else _exactly(client, 1)[0])
        host = socket.inet_ntoa(address) if kind == 1 else address.decode()
        (port,) = struct.unpack("!H", _exactly(client, 2))
        status = self._wish(client, f"{host}:{port}")
        if status is not None:
            _refuse(client, status)
        try:
            server = self._dial(client, host, port)
        except OSError:
            _refuse(client, 5)
        with server.sock:
            client.send(_reply(0))
            self._tunnel(client, server)


def _exactly(wire: Wire, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += wire.take(size - len(data))
    return data


def _reply(code: int) -> bytes:
    return bytes([5, code, 0, 1]) + bytes(6)


def _refuse(client: Wire, code: int) -> NoReturn:
    client.send(_reply(code))
    client.fin()
