"""A listening socket on loopback; each accepted connection runs in a thread of its own."""

from __future__ import annotations

import select
import socket
import threading
from typing import TYPE_CHECKING

from resilient_requests.testing._socket import ServerSocket

if TYPE_CHECKING:
    from collections.abc import Callable


class Listener:
    """Accepts on 127.0.0.1 until closed.

    The accepting thread calls ``accepted`` with each socket, in order of arrival; the function that
    it returns runs in a thread of the connection's own. State: whether the listener is closed,
    guarded by a lock, and the threads. Only the accepting thread changes those; they are read after
    its end.
    """

    def __init__(
        self,
        accepted: Callable[[ServerSocket], Callable[[], None]],
        *,
        patience: float,
        backlog: int = 128,
        receive_buffer: int | None = None,
    ) -> None:
        if not hasattr(select, "poll"):
            raise NotImplementedError("FaultServer needs a POSIX system")
        self.patience = patience
        self._accepted = accepted
        self._lock = threading.Lock()
        self._closed = False
        self._socket = socket.socket()
        if receive_buffer is not None:  # before listen(): the SYN fixes the scale of the window
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen(backlog)
        self._socket.setblocking(False)
        self.port: int = self._socket.getsockname()[1]
        # Closing the far end stops all: the near one then stays readable, for any number of waits.
        self.stop, self._far_end = socket.socketpair()
        self._acceptor = self._thread(self._accept_all)
        self._connections: list[threading.Thread] = []
        self._acceptor.start()

    def close(self) -> None:
        """End all connections and join all threads; idempotent, from any thread."""
        with self._lock:
            first, self._closed = not self._closed, True
        if first:
            self._far_end.close()
        self._join(self._acceptor)
        for thread in self._connections:
            self._join(thread)
        if first:
            self.stop.close()

    def _join(self, thread: threading.Thread) -> None:
        if thread is not threading.current_thread():
            thread.join(self.patience)

    def _thread(self, target: Callable[[], None]) -> threading.Thread:
        return threading.Thread(target=target, name=f"loopback-{self.port}", daemon=True)

    def _accept_all(self) -> None:
        poller = select.poll()
        poller.register(self._socket, select.POLLIN)
        poller.register(self.stop, select.POLLIN)
        with self._socket:
            while self.stop.fileno() not in dict(poller.poll()):
                try:
                    sock, _ = self._socket.accept()
                except OSError:  # the peer has left already
                    continue
                self._start(sock)

    def _start(self, sock: socket.socket) -> None:
        serve = self._accepted(ServerSocket(sock, self.stop, self.patience))
        thread = self._thread(serve)
        self._connections = [*filter(threading.Thread.is_alive, self._connections), thread]
        thread.start()
