"""A server on loopback that lives in the thread of its client.

It acts when the client waits to read. So a client that is fed piece by piece never waits, no piece
comes too early or too late, and silence costs no time: where nothing more will come, a read runs
into its timeout at once. Sockets, TLS and the kernel between them are real.
"""

from __future__ import annotations

import functools
import gc
import logging
import select
import socket
import ssl
import struct
import tempfile
import warnings
import weakref
from collections import deque
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import trustme

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from typing_extensions import Self


Ending: TypeAlias = Literal["open", "fin", "notify", "reset"]

NEVER = 5.0  # seconds for loopback to carry bytes that were sent


@dataclass(frozen=True)
class Script:
    """What answers one request: pieces, and the end of the connection."""

    pieces: tuple[bytes, ...]
    ending: Ending = "open"


@dataclass(frozen=True)
class Request:
    """A request that came: the number of its connection, and its request line."""

    connection: int
    line: bytes
    body: bytes

    @property
    def path(self) -> str:
        """What was asked for."""
        return self.line.split()[1].decode("latin-1")


class Network:
    """A listening port, and the connections to it.

    ``routes`` answer the requests of a path, ``script`` the next others, whichever connection they
    come on; then every request is answered with its own path. A context manager: inside it the
    reads of all sockets of the process that are connected to this port are driven. Connections may
    be used in several threads, if never at the same time.
    """

    def __init__(self, tls: ssl.SSLContext | None = None, ca_path: str | None = None) -> None:
        self.tls = tls
        self.ca_path = ca_path
        self.script: deque[Script] = deque()
        self.routes: dict[str, Script] = {}
        self.requests: list[Request] = []
        self.connections: list[Connection] = []
        self.is_halved = False
        self._by_port: dict[int, Connection] = {}
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=16)
        self._listener.setblocking(False)
        self._address = self._listener.getsockname()
        scheme = "https" if tls else "http"
        self.url = f"{scheme}://127.0.0.1:{self._address[1]}"
        self._undo: list[tuple[Any, str, Any]] = []

    @classmethod
    def secured(cls, authority: trustme.CA, ca_path: str) -> Network:
        """Return a network over TLS, with a certificate of that authority."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        return cls(context, ca_path)

    def __enter__(self) -> Self:
        # Methods of the classes, and not a class of our own: clients make their sockets themselves.
        self._replace(socket.socket, "recv", self._driven)
        self._replace(socket.socket, "recv_into", self._driven)
        self._replace(ssl.SSLSocket, "read", self._driven_tls)
        self._replace(ssl.SSLSocket, "do_handshake", self._driven_tls)
        self._replace(select, "poll", lambda _: functools.partial(_Poll, self))
        return self

    def __exit__(self, *exc_info: object) -> None:
        for owner, name, before in self._undo:
            if before is None:
                delattr(owner, name)
            else:
                setattr(owner, name, before)
        self._undo.clear()
        self.forget()
        self._listener.close()

    def _replace(self, owner: Any, name: str, driven: Callable[[Any], Any]) -> None:
        self._undo.append((owner, name, vars(owner).get(name)))
        setattr(owner, name, driven(getattr(owner, name)))

    def forget(self) -> None:
        """Close all connections, and forget what came."""
        for connection in self.connections:
            connection.sock.close()
        # A client may have dialled without ever reading.
        with suppress(BlockingIOError):
            while True:
                self._listener.accept()[0].close()
        self.script.clear()
        self.routes.clear()
        self.requests.clear()
        self.connections.clear()
        self._by_port.clear()

    def flush(self) -> None:
        """Let all that is still to be sent arrive."""
        for connection in self.connections:
            connection.flush()

    def left_open(self, seconds: float = 0.0) -> int:
        """Return how many connections the clients have not closed, after at most so long."""
        return sum(1 for each in self.connections if not each.is_closed_by_client(seconds))

    # -- the client's side -------------------------------------------------------------------------

    def _driven(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def read(sock: socket.socket, *args: Any, **kwargs: Any) -> Any:
            connection = self._connection_of(sock)
            if connection is not None and sock.gettimeout() != 0:
                while not _is_readable(sock):
                    if not connection.advance():
                        raise TimeoutError("timed out")
            return original(sock, *args, **kwargs)

        return _as_of(socket, read)

    def _driven_tls(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def read(sock: ssl.SSLSocket, *args: Any, **kwargs: Any) -> Any:
            connection, limit = self._connection_of(sock), sock.gettimeout()
            if connection is None or limit == 0:
                return original(sock, *args, **kwargs)
            # A record without data, such as a ticket, is readable below, and gives nothing.
            sock.settimeout(0)
            try:
                while True:
                    try:
                        return original(sock, *args, **kwargs)
                    except ssl.SSLWantReadError:
                        if not (_is_readable(sock) or connection.advance()):
                            raise TimeoutError("The read operation timed out") from None
            finally:
                with suppress(OSError):  # closed meanwhile
                    sock.settimeout(limit)

        return _as_of(ssl, read)

    def _connection_of(self, sock: socket.socket) -> Connection | None:
        try:
            if sock.getpeername() != self._address:
                return None
            port = sock.getsockname()[1]
        except OSError:
            return None
        if port not in self._by_port:
            self.accept()
        connection = self._by_port.get(port)
        if connection is not None:
            connection.serve(sock)
        return connection

    def waited_for(self, descriptor: int) -> Connection | None:
        """Return the connection whose client waits for this descriptor; None: it is not ours."""
        return next((each for each in self.connections if each.is_of(descriptor)), None)

    def accept(self) -> None:
        """Accept the clients that wait for it; before a fork, since the child would do so too."""
        with suppress(BlockingIOError):
            while True:
                sock, (_, port) = self._listener.accept()
                self._by_port[port] = Connection(self, sock, len(self.connections) + 1)
                self.connections.append(self._by_port[port])


@contextmanager
def both_networks() -> Iterator[dict[bool, Network]]:
    """Open a network without TLS, under False, and one with it, under True.

    Nothing is logged inside, and nothing warns of a socket that only the collector closes.
    """
    authority = trustme.CA()
    # Whoever keeps records keeps tracebacks, and with them the connections of their frames.
    before = logging.root.manager.disable
    logging.disable()
    try:
        with warnings.catch_warnings(), tempfile.TemporaryDirectory() as directory:
            warnings.simplefilter("ignore", ResourceWarning)
            path = Path(directory, "ca.pem")
            path.write_bytes(authority.cert_pem.bytes())
            with Network() as plain, Network.secured(authority, str(path)) as secured:
                yield {False: plain, True: secured}
            gc.collect()
    finally:
        logging.disable(before)


class Connection:
    """The server's side of one connection."""

    def __init__(self, network: Network, sock: socket.socket, number: int) -> None:
        self.sock = sock
        self.is_ended = False
        self._client: Callable[[], socket.socket | None] = lambda: None
        self._network = network
        self._number = number
        self._received = b""
        self._queue: deque[bytes | Ending] = deque()  # bytes are as they go over the wire
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None
        self._is_shaking = network.tls is not None
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if network.tls is not None:
            self._tls = network.tls.wrap_bio(self._incoming, self._outgoing, server_side=True)

    def serve(self, client: socket.socket) -> None:
        """Note the socket that the client reads."""
        self._client = weakref.ref(client)

    def is_of(self, descriptor: int) -> bool:
        """Return whether the client reads this descriptor."""
        client = self._client()
        return client is not None and client.fileno() == descriptor

    def advance(self) -> bool:
        """Do what comes next; return False where the client would wait for ever."""
        is_due = self._advance()
        if is_due:
            self._await_arrival()
        return is_due

    def flush(self) -> None:
        """Do all that is left."""
        is_due = False
        while self._advance():
            is_due = True
        if is_due:
            self._await_arrival()

    def _await_arrival(self) -> None:
        # Loopback carries bytes within the send, but on a busy machine a moment later.
        client = self._client()
        if client is not None and client.fileno() >= 0:
            _is_readable(client, NEVER)

    def _advance(self) -> bool:
        """Do the next thing; return False where there is none."""
        self._receive()
        if self._is_shaking:
            if self._shake():
                return True
            self._receive()
        if self._is_shaking or self.is_ended or not self._queue:
            return False
        step = self._queue.popleft()
        if isinstance(step, bytes):
            with suppress(OSError):  # the client is gone
                self.sock.send(step)
        else:
            self._end(step)
        return True

    def _shake(self) -> bool:
        """Shake hands; return whether anything was sent."""
        assert self._tls is not None
        with suppress(ssl.SSLWantReadError):
            self._tls.do_handshake()
            self._is_shaking = False
        data = self._outgoing.read()
        if data:
            self.sock.send(data)
        return bool(data)

    def _end(self, ending: Ending) -> None:
        self.is_ended = True
        if ending == "reset":
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.sock.close()
            return
        if ending == "notify" and self._tls is not None:
            with suppress(ssl.SSLError):
                self._tls.unwrap()
            with suppress(OSError):
                self.sock.send(self._outgoing.read())
            return
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def _receive(self) -> None:
        with suppress(OSError):
            while data := self.sock.recv(1 << 16):
                if self._tls is None:
                    self._received += data
                else:
                    self._incoming.write(data)
        if self._tls is not None and not self._is_shaking:
            with suppress(ssl.SSLError):
                while data := self._tls.read(1 << 16):
                    self._received += data
        while (request := self._next_request()) is not None:
            self._network.requests.append(request)
            self._answer(request)

    def _next_request(self) -> Request | None:
        head, blank, rest = self._received.partition(b"\r\n\r\n")
        if not blank:
            return None
        line, *fields = head.split(b"\r\n")
        named = {
            name.lower(): value for name, _, value in (each.partition(b":") for each in fields)
        }
        if b"transfer-encoding" in named:
            body, last, rest = rest.partition(b"0\r\n\r\n")
            if not last:
                return None
        else:
            size = int(named.get(b"content-length", 0))
            if len(rest) < size:
                return None
            body, rest = rest[:size], rest[size:]
        self._received = rest
        return Request(self._number, line, body)

    def _answer(self, request: Request) -> None:
        network, path = self._network, request.path
        if path in network.routes:
            answer = network.routes[path]
        elif network.script:
            answer = network.script.popleft()
        else:
            head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(path)
            answer = Script((head + path.encode(),))
        for piece in answer.pieces:
            self._queue.extend(self._on_the_wire(piece))
        if answer.ending != "open":
            self._queue.append(answer.ending)

    def _on_the_wire(self, piece: bytes) -> list[bytes]:
        if self._tls is None or not piece:
            return [piece]
        self._tls.write(piece)
        record = self._outgoing.read()
        half = len(record) // 2 if self._network.is_halved else 0
        return [record[:half], record[half:]] if half else [record]

    def is_closed_by_client(self, seconds: float) -> bool:
        """Return whether the client closes its side within so many seconds."""
        try:
            # A socket that was ended with a reset is closed here.
            while self.sock.fileno() >= 0 and _is_readable(self.sock, seconds):
                if not self.sock.recv(1 << 16):
                    return True
        except OSError:
            return True
        return self.sock.fileno() < 0


class _Poll:
    """select.poll(), which drives the connection that is waited for, as a read does."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._real = _real_poll()
        self._reading: set[int] = set()

    def register(
        self, file: Any, mask: int = select.POLLIN | select.POLLPRI | select.POLLOUT
    ) -> None:
        _register(self._real, file, mask)
        if mask & select.POLLIN:
            self._reading.add(file if isinstance(file, int) else file.fileno())

    def unregister(self, file: Any) -> None:
        self._real.unregister(file)
        self._reading.discard(file if isinstance(file, int) else file.fileno())

    def poll(self, timeout: float | None = None) -> list[tuple[int, int]]:
        ready = self._real.poll(0)
        while not ready and timeout != 0:
            waited_for = [
                found for each in self._reading if (found := self._network.waited_for(each))
            ]
            if not waited_for:
                return self._real.poll(timeout)
            if not waited_for[0].advance():
                return []
            ready = self._real.poll(0)
        return ready


def _as_of(module: ModuleType, function: Any) -> Callable[..., Any]:
    """Return a function whose frames are those of a module: it stands for a method of its classes.

    An adapter may look at where an exception was raised.
    """
    code = function.__code__.replace(co_filename=module.__file__)
    names = {**function.__globals__, "__name__": module.__name__}
    return FunctionType(code, names, function.__name__, None, function.__closure__)


_real_poll = select.poll
# A closed socket is refused here; the frame of a real one would be the caller's.
_register = _as_of(socket, lambda poll, file, mask: poll.register(file, mask))


def _is_readable(sock: socket.socket, seconds: float = 0.0) -> bool:
    poller = _real_poll()
    poller.register(sock, select.POLLIN)
    return bool(poller.poll(seconds * 1000))
