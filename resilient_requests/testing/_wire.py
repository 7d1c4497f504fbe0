"""One socket, plain or TLS, on which every wait is bounded, can be stopped and sees the peer leave."""

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

# POLLRDHUP (Linux) shows a FIN that stands behind unread bytes; elsewhere POLLHUP has to do.
# Without poll (Windows) the module can still be imported: the command line has commands that need no server.
PEER_GONE = 0
for _flag in ("POLLHUP", "POLLERR", "POLLRDHUP"):
    PEER_GONE |= getattr(select, _flag, 0)
BLOCK = 65536
SLICE = 0.005  # a threading.Event cannot be polled together with sockets
NOTICE = 0.05  # for the peer to see our FIN before the RST
QUIET = 0.25  # so long without a byte, and nothing more is on its way to us


class Ended(Exception):
    """The connection is over: how, and which side ended it."""

    def __init__(self, how: How, by: Side) -> None:
        super().__init__(how, by)
        self.how = how
        self.by = by


class Wire:
    """A non-blocking socket with bounded reads and writes, and the ways to end it.

    Used by one thread. ``stop`` is a socket that is readable, or closed, for good when all shall end;
    each wait then raises Ended. TLS runs over memory buffers, so the plain socket stays at hand for a
    reset without close_notify.
    """

    def __init__(self, sock: socket.socket, stop: socket.socket, patience: float) -> None:
        self.sock = sock
        self.patience = patience
        self.buffer = bytearray()
        self._stop = stop
        self._tls: ssl.SSLObject | None = None
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def wait(
        self, events: int, seconds: float | None = None, *, bell: socket.socket | None = None
    ) -> int:
        """The poll flags of the socket; 0 after so many seconds (``patience`` if None) or at the bell."""
        if self._stop.fileno() < 0:
            raise Ended("fin", "server")
        poller = select.poll()
        poller.register(self.sock, events)
        for other in filter(None, (self._stop, bell)):
            poller.register(other, select.POLLIN)
        ready = dict(poller.poll(math.ceil((self.patience if seconds is None else seconds) * 1000)))
        if self._stop.fileno() in ready:
            raise Ended("fin", "server")
        if bell is not None and bell.fileno() in ready:
            bell.recv(BLOCK)
            return 0
        return ready.get(self.sock.fileno(), 0)

    def receive(self, bell: socket.socket | None = None) -> bytes:
        """Bytes as they are on the wire; b"" when patience is at its end or the bell rang."""
        if not self.wait(select.POLLIN, bell=bell):
            return b""
        try:
            data = self.sock.recv(BLOCK)
        except OSError:
            raise Ended("reset", "peer") from None
        if not data:
            raise Ended("fin", "peer")
        return data

    def fill(self, bell: socket.socket | None = None) -> bool:
        """Add what arrives to the buffer; False when patience is at its end or the bell rang."""
        if self._tls is None:
            data = self.receive(bell)
            self.buffer += data
            return bool(data)
        while True:
            try:
                data = self._tls.read(BLOCK)
            except ssl.SSLWantReadError:
                if not (data := self.receive(bell)):
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
        """Wait for at least one more byte in the buffer, at most as long as patience lasts."""
        if not self.fill():
            raise Ended("error", "server")

    def take(self, most: int) -> bytes:
        """One to ``most`` bytes."""
        if not self.buffer:
            self.need()
        data = bytes(self.buffer[:most])
        del self.buffer[:most]
        return data

    def take_until(self, mark: bytes, limit: int = 1 << 20) -> bytes:
        """All bytes up to and with the mark."""
        start = 0
        while (end := self.buffer.find(mark, start)) < 0:
            start = max(0, len(self.buffer) - len(mark) + 1)
            if start > limit:
                raise Ended("error", "server")
            self.need()
        return self.take(end + len(mark))

    def start_tls(self, context: ssl.SSLContext) -> None:
        """Do the handshake as a server, beginning with what is in the buffer."""
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
        while view:  # by blocks: encrypting many megabytes at once could not be stopped
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
        """Wait so many seconds, or until the event is set; raises Ended as soon as the peer has gone."""
        if isinstance(until, threading.Event):
            deadline = time.monotonic() + self.patience
            while not until.is_set() and time.monotonic() < deadline:
                self._watch(SLICE)
        else:
            self._watch(min(until, self.patience))

    def silence(self) -> NoReturn:
        """Wait until the peer has gone, or patience is at its end."""
        self._watch(self.patience)
        self.fin(unread=True)

    def black_hole(self) -> NoReturn:
        """Discard what comes until the peer has gone, or patience is at its end."""
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
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()
        raise Ended("reset", "server")

    def fin(self, *, notify: bool = False, unread: bool = False) -> NoReturn:
        """End with a FIN, after a TLS close_notify if ``notify``; ``unread``: more may be on its way here."""
        if notify and self._tls is not None:
            with contextlib.suppress(ssl.SSLError):
                self._tls.unwrap()
            self._send(self._outgoing.read())
        self._shut_writing()
        # Closing a socket with unread bytes sends a RST, which would overtake the FIN.
        with contextlib.suppress(Ended):
            deadline = time.monotonic() + self.patience
            while self.wait(select.POLLIN, QUIET if unread else 0) and time.monotonic() < deadline:
                self.receive()
        raise Ended("fin", "server")

    def fin_then_reset(self) -> NoReturn:
        """End with a FIN, and with a RST after the peer has had it."""
        self._shut_writing()
        self.wait(PEER_GONE, NOTICE)
        self.reset()

    def _shut_writing(self) -> None:
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def _let_leave(self) -> None:
        # A reset throws away what the kernel has not sent yet, which happens when the peer's window is full.
        deadline = time.monotonic() + min(1.0, self.patience)
        while _unsent(self.sock) and time.monotonic() < deadline:
            if self.wait(PEER_GONE, 0.001):
                break


def _unsent(sock: socket.socket) -> int:
    """Bytes that the kernel could not send yet (SIOCOUTQNSD, Linux only; 0 elsewhere)."""
    if sys.platform != "linux":
        return 0
    (count,) = struct.unpack("i", fcntl.ioctl(sock.fileno(), 0x894B, b"\0" * 4))
    return int(count)
