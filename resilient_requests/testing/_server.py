"""An HTTP/1.1 server on loopback that follows a script of faults, and counts its requests."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from resilient_requests.testing._arguments import LONGEST, check, check_choice
from resilient_requests.testing._certificates import loopback_tls
from resilient_requests.testing._connection import Connection, ServerOptions, State
from resilient_requests.testing._listener import Listener
from resilient_requests.testing._recorder import Answer, ConnectionRecord, Recorder
from resilient_requests.testing._script import respond
from resilient_requests.testing._steps import BlackHole, Fin, Reply, Reset, Send, Step

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Literal

    from typing_extensions import Self

    from resilient_requests.testing._connection import IdleFault
    from resilient_requests.testing._request import ReceivedRequest
    from resilient_requests.testing._socket import ServerSocket

OK = respond(b"ok")
GRACE = 1.0  # seconds until a thread reaches the wait that its peer already sees


class FaultServer:
    """A scriptable HTTP server that resets, stalls, truncates, drips and forgets.

    Serves on 127.0.0.1 from construction until ``close()``; also a context manager. Each request
    takes one reply from the script, over all connections; then ``default`` answers. A ``route``
    goes before both. A callable in place of a reply returns the reply for a request that was read
    whole. If it fails, the answer is 500, and ``close()`` raises its exception. A wrong argument,
    here and of replies, raises TypeError or ValueError at once, naming the parameter.

    ``patience`` bounds every wait, in seconds. ``idle_limit`` plays a middlebox: a request on a
    connection that was idle for longer is answered with a reset (``idle_fault="reset"``), or
    swallowed for good ("drop"). ``receive_buffer`` sets SO_RCVBUF: if the server stops reading, a
    client stops after about so many bytes. TLS needs trustme (``pip install trustme``). POSIX only.

    State: the recorder and the set of open connections; the recorder's condition guards both. Any
    thread may call the methods.
    """

    host: str
    """The address of the server: "127.0.0.1"."""
    port: int
    """The port of the server."""
    url: str
    """``http://host:port``, or ``https://host:port`` with TLS; without a path."""
    ca_path: str | None
    """The file with its CA's certificate, for ``verify=``, until ``close()``; None without TLS."""

    def __init__(
        self,
        *replies: Answer,
        tls: bool = False,
        default: Answer = OK,
        patience: float = 30.0,
        idle_limit: float | None = None,
        idle_fault: IdleFault = "reset",
        listen_backlog: int = 128,
        receive_buffer: int | None = None,
    ) -> None:
        self._options = ServerOptions(
            tls=tls,
            patience=patience,
            idle_limit=idle_limit,
            idle_fault=idle_fault,
            listen_backlog=listen_backlog,
            receive_buffer=receive_buffer,
        )
        self._recorder = Recorder(replies, default)
        self._changed = self._recorder.changed
        self._open: set[Connection] = set()
        self._tls = loopback_tls() if tls else None
        self._listener = Listener(
            self._accept, patience=patience, backlog=listen_backlog, receive_buffer=receive_buffer
        )
        self.host = "127.0.0.1"
        self.port = self._listener.port
        self.url = f"{'https' if tls else 'http'}://{self.host}:{self.port}"
        self.ca_path = None
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        if self._tls is not None:
            self._directory = tempfile.TemporaryDirectory(prefix="fault-server-")
            path = Path(self._directory.name, "ca.pem")
            path.write_bytes(self._tls.ca)
            self.ca_path = str(path)

    def __repr__(self) -> str:
        return (
            f"<FaultServer {self.url} accepted={self.accepted} requests={len(self.requests)} "
            f"applied={self.applied} open={self.open_connections}>"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._release()

    def close(self) -> None:
        """End all connections, join all threads, remove the CA's file; idempotent.

        Raises the first exception of a callable in place of a reply, once; it is a TypeError if the
        callable returned no reply. The end of a ``with`` block raises it too, unless another
        exception leaves the block.
        """
        self._release()
        failure = self._recorder.take_failure()
        if failure is not None:
            raise failure

    def _release(self) -> None:
        self._listener.close()
        if self._directory is not None:
            self._directory.cleanup()

    @property
    def default(self) -> Answer:
        """The answer after the end of the script; may be set."""
        return self._recorder.default

    @default.setter
    def default(self, answer: Answer) -> None:
        self._recorder.default = answer

    def script(self, *replies: Answer) -> None:
        """Add replies to the script."""
        self._recorder.script(replies)

    def route(self, path: str, reply: Answer) -> None:
        """Answer all requests of that path, with any query, with the reply."""
        self._recorder.route(path, reply)

    def on_connect(self, *replies: Reply | None) -> None:
        """Script the steps of the next connections before a byte is read, one reply each."""
        self._recorder.greet(replies, after_hello=False)

    def on_handshake(self, *replies: Reply | None) -> None:
        """Script the steps of the next TLS connections after their ClientHello, one reply each."""
        self._recorder.greet(replies, after_hello=True)

    @property
    def accepted(self) -> int:
        """Connections accepted."""
        with self._changed:
            return len(self._recorder.connections)

    @property
    def connections(self) -> tuple[ConnectionRecord, ...]:
        """The connections accepted, in order."""
        with self._changed:
            return tuple(self._recorder.connections)

    @property
    def open_connections(self) -> int:
        """Connections that have not ended."""
        with self._changed:
            return len(self._open)

    @property
    def requests(self) -> tuple[ReceivedRequest, ...]:
        """The requests with a complete head, in order."""
        with self._changed:
            return tuple(self._recorder.requests)

    @property
    def applied(self) -> int:
        """Requests acted upon: read whole, with a reply that applies."""
        with self._changed:
            return sum(self._recorder.applied.values())

    @property
    def applied_keys(self) -> Counter[str]:
        """How often each Idempotency-Key was applied; requests without one are under ""."""
        with self._changed:
            return Counter(self._recorder.applied)

    @property
    def swallowed(self) -> int:
        """Requests that came on a frozen connection, or on one idle beyond the limit."""
        with self._changed:
            return self._recorder.swallowed

    def reset_counts(self) -> None:
        """Forget counts and records; connections stay open, and their numbers go on."""
        self._recorder.forget()

    def wait_for(self, predicate: Callable[[FaultServer], bool], timeout: float = 5.0) -> bool:
        """Return whether the predicate came true within so many seconds; asked at each change."""
        check("predicate", predicate, Callable)
        check("timeout", timeout, float, int, least=0, most=LONGEST)
        with self._changed:
            return self._changed.wait_for(lambda: predicate(self), timeout)

    def wait_for_requests(self, count: int, timeout: float = 5.0) -> bool:
        """Return whether the heads of so many requests were read in time."""
        check("count", count, int, least=0)
        return self.wait_for(lambda server: len(server.requests) >= count, timeout)

    def wait_for_disconnects(self, count: int, timeout: float = 5.0) -> bool:
        """Return whether so many connections ended in time."""
        check("count", count, int, least=0)
        return self.wait_for(
            lambda server: sum(1 for one in server.connections if one.ended) >= count, timeout
        )

    def kill_idle(self, how: Literal["reset", "fin"] = "reset") -> int:
        """End every connection that waits for a request; returns their number afterwards."""
        check_choice("how", how, ("reset", "fin"))
        with self._changed:
            killed = self._order(Reset() if how == "reset" else Fin())
            self._changed.wait_for(lambda: not any(one in self._open for one in killed), GRACE)
            return len(killed)

    def push_idle(self, data: bytes) -> int:
        """Send bytes on every connection that waits for a request; returns their number."""
        with self._changed:
            pushed = self._order(Send(data))
            self._changed.wait_for(
                lambda: not any(one.order and one in self._open for one in pushed), GRACE
            )
            return len(pushed)

    def freeze_idle(self) -> int:
        """Never answer again on connections that wait for a request now; returns their number."""
        with self._changed:
            return len(self._order(BlackHole()))

    def _order(self, step: Step) -> list[Connection]:
        self._changed.wait_for(
            lambda: not any(one.state is State.SETTLING for one in self._open), GRACE
        )
        idle = [one for one in self._open if one.state is State.IDLE]
        for connection in idle:
            connection.give(step)
        return idle

    def _accept(self, sock: ServerSocket) -> Callable[[], None]:
        with self._changed:
            connection = Connection(sock, self._recorder, self._options, self._tls)
            greeting = self._recorder.greeting(after_hello=False)
            handshake = self._recorder.greeting(after_hello=True) if self._options.tls else None
            self._open.add(connection)
        return lambda: connection.run(greeting, handshake, self._open.discard)
