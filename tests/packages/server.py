"""A raw TCP server that answers one client, and plays one fault once that is armed."""

from __future__ import annotations

import contextlib
import re
import select
import socket
import struct
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from packages.faults import Fault

if TYPE_CHECKING:
    import ssl
    from pathlib import Path
    from types import TracebackType

    from typing_extensions import Self

NAME = re.compile(rb"item[0-9a-f]{8}")
PATIENCE = 30.0
"""Seconds after which a thread that waits for a client gives up."""
GATHER = 0.15
"""Seconds in which the requests of two processes on one connection come together."""
_RESET = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Request:
    """A request as it was read; ``name`` is what its answer must contain."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def name(self) -> str:
        """The name that the caller put into the target or the body; empty where there is none."""
        found = NAME.search(self.target.encode()) or NAME.search(self.body)
        return found.group().decode() if found else ""


@dataclass(frozen=True)
class Reply:
    """An answer."""

    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})

    def head(self) -> bytes:
        """Return the bytes before the body."""
        headers = {**self.headers, "Content-Length": str(len(self.body))}
        lines = [f"HTTP/1.1 {self.status} OK", *(f"{k}: {v}" for k, v in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode()


class Service(Protocol):
    """What a server asks for its answers."""

    @property
    def honours_keys(self) -> bool:
        """Whether it acts once on an ``Idempotency-Key``."""
        ...

    def answer(self, request: Request) -> Reply:
        """Return what the real service would answer, as far as the client looks at it."""
        ...


class Server:
    """Serves from construction until ``close()``, with a thread per connection.

    State: the counts, the open connections and the fault, all guarded by one lock.
    """

    def __init__(
        self, service: Service, listener: socket.socket, tls: ssl.SSLContext | None = None
    ) -> None:
        self._service, self._listener, self._tls = service, listener, tls
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._stale: set[socket.socket] = set()
        self._fault: Fault | None = None
        self._is_spent = False
        self._applied: Counter[tuple[str, str, bytes]] = Counter()
        self._keys: set[str] = set()
        self.requests = 0
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def applied(self) -> int:
        """The most that one POST or PATCH was acted on since the fault was armed."""
        with self._lock:
            return max(self._applied.values(), default=0)

    def arm(self, fault: Fault) -> None:
        """Count from now on, and play the fault; connections that are open now count as reused."""
        with self._lock:
            self._fault, self._stale = fault, set(self._open)
            self.requests = 0
            self._applied.clear()
        if fault is Fault.ACTED:
            for sock in list(self._stale):
                _end(sock)

    def close(self) -> None:
        """End all connections, and wait for their threads."""
        _end(self._listener)
        self._listener.close()
        with self._lock:
            open_now = list(self._open)
        for sock in open_now:
            _end(sock)
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                sock.settimeout(PATIENCE)
                thread = threading.Thread(target=self._serve, args=(sock,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, sock: socket.socket) -> None:
        # ValueError: two processes on one connection mix their requests into nonsense.
        with contextlib.suppress(OSError, ValueError):
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_side=True)
            with self._lock:
                self._open.add(sock)
            with contextlib.closing(sock.makefile("rb")) as file:
                self._converse(sock, file)
        with self._lock:
            self._open.discard(sock)
        sock.close()

    def _converse(self, sock: socket.socket, file: Reader) -> None:
        while file.peek(1):
            fault = self._fault_of_connection(sock)
            if fault is Fault.RESET:
                return _reset(sock)
            if fault is Fault.SILENT:
                return _swallow(file)
            request = read(file)
            fault = fault or self._fault_of_request(sock, request)
            reply = self._act(request)
            if fault in (Fault.ACTED, Fault.ACTED_REUSED):
                return _reset(sock)
            if fault is Fault.STALL:
                sock.sendall(reply.head() + reply.body[: len(reply.body) // 2])
                return _swallow(file)
            answers = reply.head() + reply.body
            if fault is Fault.FORK:
                time.sleep(GATHER)
                while select.select([sock], [], [], 0)[0] and file.peek(1):
                    other = self._act(read(file))
                    answers += other.head() + other.body
            sock.sendall(answers)
        return None

    def _fault_of_connection(self, sock: socket.socket) -> Fault | None:
        """Return what goes wrong with each request on a connection that was idle."""
        with self._lock:
            is_one = self._fault in (Fault.RESET, Fault.SILENT, Fault.FORK)
            return self._fault if is_one and sock in self._stale else None

    def _fault_of_request(self, sock: socket.socket, request: Request) -> Fault | None:
        """Return what goes wrong with a request, once; what a client asks on the side is spared."""
        with self._lock:
            fault = self._fault
            if fault in (None, Fault.RESET, Fault.SILENT, Fault.FORK) or self._is_spent:
                return None
            if request.method == "GET" and not request.name:
                return None
            if fault is Fault.ACTED_REUSED and sock not in self._stale:
                return None
            self._is_spent = True
            return fault

    def _act(self, request: Request) -> Reply:
        with self._lock:
            self.requests += 1
            key = request.headers.get("idempotency-key") if self._service.honours_keys else None
            if request.method in ("POST", "PATCH") and key not in self._keys:
                self._applied[request.method, request.target, request.body] += 1
            self._keys.update([key] if key else [])
        return self._service.answer(request)


class Reader(Protocol):
    """The part of a buffered file that is read here."""

    def peek(self, size: int, /) -> bytes: ...
    def read(self, size: int, /) -> bytes: ...
    def readline(self) -> bytes: ...


def read(file: Reader) -> Request:
    """Read one request; raises ConnectionError where it is cut."""
    words = file.readline().decode("ascii").split()
    if len(words) != 3:
        raise ConnectionAbortedError("no whole request")
    method, target, _ = words
    headers = {}
    while line := file.readline().strip():
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = b"".join(iter(lambda: _chunk(file), b""))
    else:
        body = file.read(int(headers.get("content-length", 0)))
    return Request(method, target, headers, body)


def _chunk(file: Reader) -> bytes:
    data = file.read(int(file.readline().partition(b";")[0], 16))
    file.readline()
    return data


def _swallow(file: Reader) -> None:
    while file.read(1):
        pass


def _reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    sock.close()


def _end(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def listen(path: Path | None = None) -> socket.socket:
    """Return a listener on loopback, or on a UNIX socket."""
    if path is None:
        return socket.create_server(("127.0.0.1", 0))
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    return listener
