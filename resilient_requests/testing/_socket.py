"""A server's socket, plain or TLS; each wait is bounded, can be stopped, sees the peer leave."""

from __future__ import annotations

import contextlib
import math
import select
import socket
import ssl
import struct
import sys
import threading
import time
from typing import Literal, NoReturn, TypeAlias

if sys.platform == "linux":
    import fcntl

How: TypeAlias = Literal["fin", "reset", "error"]
Side: TypeAlias = Literal["peer", "server"]

# POLLRDHUP (Linux) shows a FIN behind unread bytes; POLLHUP alone does not. Windows has no poll,
# but some commands need no server and import this module all the same.
PEER_GONE = 0
for _flag in ("POLLHUP", "POLLERR", "POLLRDHUP"):
    PEER_GONE |= getattr(select, _flag, 0)
BLOCK = 65536
SLICE = 0.005  # seconds: poll() cannot wait for a threading.Event
NOTICE = 0.05  # seconds that let the peer see our FIN before the RST
_SIOCOUTQNSD = 0x894B  # linux/sockios.h
QUIET = 0.25  # seconds without a byte after which nothing more is under way


class Ended(Exception):
    """The connection is over: how, and which side ended it."""

    def __init__(self, how: How, by: Side) -> None:
        super().__init__(how, by)
        self.how = how
        self.by = by


class ServerSocket:
    """A non-blocking socket with bounded reads and writes, and the ways to end it.

    Used by one thread. ``stop`` is a socket that becomes readable, or is closed, when everything
    shall end; each wait then raises `Ended`. TLS runs over memory buffers: a reset without
    close_notify needs the plain socket.
    """

    def __init__(self, sock: socket.socket, stop: socket.socket, patience: float) -> None:
        self.sock = sock
        self.patience = patience
        self.buffer = bytearray()
        self._stop = stop
        self._tls: ssl.SSLObject | None = None
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        sock.setblocking(False)
        # Nagle's algorithm would hold a small piece back until the one before is acknowledged.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def wait(
        self, events: int, seconds: float | None = None, *, until: socket.socket | None = None
    ) -> int:
        """Return the poll flags of the socket.

        Returns 0 after so many seconds (``patience`` if None), and when ``until`` is readable.
        """
        if self._stop.fileno() < 0:
            raise Ended("fin", "server")
        poller = select.poll()
        poller.register(self.sock, events)
        for other in filter(None, (self._stop, until)):
            poller.register(other, select.POLLIN)
        ready = dict(poller.poll(math.ceil((self.patience if seconds is None else seconds) * 1000)))
        if self._stop.fileno() in ready:
            raise Ended("fin", "server")
        if until is not None and until.fileno() in ready:
            until.recv(BLOCK)
            return 0
        return ready.get(self.sock.fileno(), 0)

    def receive(self, until: socket.socket | None = None) -> bytes:
        """Return bytes as they come; b"" if patience ends, or ``until`` is readable."""
        if not self.wait(select.POLLIN, until=until):
            return b""
        try:
            data = self.sock.recv(BLOCK)
        except OSError:
            raise Ended("reset", "peer") from None
        if not data:
            raise Ended("fin", "peer")
        return data

    def fill(self, until: socket.socket | None = None) -> bool:
        """Add arriving bytes to the buffer; False if patience ends, or ``until`` is readable."""
        if self._tls is None:
            data = self.receive(until)
            self.buffer += data
            return bool(data)
        while True:
            try:
                data = self._tls.read(BLOCK)
            except ssl.SSLWantReadError:
                if not (data := self.receive(until)):
                    return False
                self._incoming.write(data)
            except ssl.SSLError:
                raise Ended("error", "peer") from None
            else:
                if not data:
                    raise Ended("fin", "peer")
                self.buffer += data
                return True

    def need(self) -> None:
        """Wait for at least one more byte in the buffer; raises `Ended` if patience ends."""
        if not self.fill():
            raise Ended("error", "server")

    def take(self, most: int) -> bytes:
        """Return one to ``most`` bytes."""
        if not self.buffer:
            self.need()
        data = bytes(self.buffer[:most])
        del self.buffer[:most]
        return data

    def take_until(self, mark: bytes, limit: int = 1 << 20) -> bytes:
        """Return all bytes up to and with the mark."""
        start = 0
        while (end := self.buffer.find(mark, start)) < 0:
            start = max(0, len(self.buffer) - len(mark) + 1)
            if start > limit:
                raise Ended("error", "server")
            self.need()
        return self.take(end + len(mark))

    def start_tls(self, context: ssl.SSLContext) -> None:
        """Shake hands as a server, beginning with the bytes in the buffer."""
        self._incoming.write(bytes(self.buffer))
        self.buffer.clear()
        tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                self._send(self._outgoing.read())
                if not (data := self.receive()):
                    raise Ended("error", "server") from None
                self._incoming.write(data)
            except ssl.SSLError:
                with contextlib.suppress(Ended):
                    self._send(self._outgoing.read())
                raise Ended("error", "peer") from None
            else:
                break
        self._send(self._outgoing.read())
        self._tls = tls

    def send(self, data: bytes) -> None:
        """Hand all bytes to the kernel."""
        if self._tls is None:
            self._send(data)
            return
        view = memoryview(data)
        while view:  # in blocks: nothing can stop the encryption of many megabytes
            view = view[self._tls.write(view[:BLOCK]) :]
            self._send(self._outgoing.read())

    def _send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[self.sock.send(view) :]
            except BlockingIOError:
                if not self.wait(select.POLLOUT):
                    raise Ended("error", "server") from None
            except OSError:
                raise Ended("reset", "peer") from None

    def pause(self, until: float | threading.Event) -> None:
        """Wait so many seconds, or until the event is set; raises `Ended` if the peer leaves."""
        if isinstance(until, threading.Event):
            deadline = time.monotonic() + self.patience
            while not until.is_set() and time.monotonic() < deadline:
                self._watch(SLICE)
        else:
            self._watch(min(until, self.patience))

    def silence(self) -> NoReturn:
        """Wait until the peer has left, or patience ends."""
        self._watch(self.patience)
        self.fin(unread=True)

    def black_hole(self) -> NoReturn:
        """Discard all bytes until the peer has left, or patience ends."""
        while self.receive():
            pass
        self.fin(unread=True)

    def _watch(self, seconds: float) -> None:
        if self.wait(PEER_GONE, seconds):
            raise Ended(
                "reset" if self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) else "fin",
                "peer",
            )

    def reset(self) -> NoReturn:
        """End with a RST."""
        self._let_leave()
        # With a linger time of 0, close() sends a RST instead of a FIN.
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()
        raise Ended("reset", "server")

    def fin(self, *, notify: bool = False, unread: bool = False) -> NoReturn:
        """End with a FIN, behind a TLS close_notify if ``notify``.

        ``unread``: bytes of the peer may still be under way, and are awaited.
        """
        if notify and self._tls is not None:
            with contextlib.suppress(ssl.SSLError):
                self._tls.unwrap()
            self._send(self._outgoing.read())
        self._shut_writing()
        # close() of a socket with unread bytes sends a RST, which would overtake the FIN.
        with contextlib.suppress(Ended):
            deadline = time.monotonic() + self.patience
            while self.wait(select.POLLIN, QUIET if unread else 0) and time.monotonic() < deadline:
                self.receive()
        raise Ended("fin", "server")

    def fin_then_reset(self) -> NoReturn:
        """End with a FIN, and with a RST once the peer has had it."""
        self._shut_writing()
        self.wait(PEER_GONE, NOTICE)
        self.reset()

    def _shut_writing(self) -> None:
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def _let_leave(self) -> None:
        # A reset discards bytes that the kernel has not sent yet, as for a peer with a full window.
        deadline = time.monotonic() + min(1.0, self.patience)
        while _unsent(self.sock) and time.monotonic() < deadline:
            if self.wait(PEER_GONE, 0.001):
                break


def _unsent(sock: socket.socket) -> int:
    """Return the number of bytes that the kernel has not sent yet; 0 except on Linux."""
    if sys.platform != "linux":
        return 0
    (count,) = struct.unpack("i", fcntl.ioctl(sock.fileno(), _SIOCOUTQNSD, b"\0" * 4))
    return int(count)
