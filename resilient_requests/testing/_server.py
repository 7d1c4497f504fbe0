"""An HTTP/1.1 server on loopback that follows a script of faults, counting what it saw."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING

from resilient_requests.testing._arguments import instance
from resilient_requests.testing._certificates import loopback_tls
from resilient_requests.testing._connection import Connection, State, Terms
from resilient_requests.testing._ledger import Answer, ConnectionRecord, Ledger, checked, next_of
from resilient_requests.testing._listener import Listener
from resilient_requests.testing._options import check
from resilient_requests.testing._script import BlackHole, Fin, Reply, Reset, Send, Step, respond

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from typing_extensions import Self

    from resilient_requests.testing._options import IdleEnd, IdleFault
    from resilient_requests.testing._request import ReceivedRequest
    from resilient_requests.testing._wire import Wire

OK = respond(b"ok")
GRACE = 1.0  # seconds for threads of connections that their peers see idle already to get there


class FaultServer:
    """A scriptable HTTP server that resets, stalls, truncates, drips and forgets, for tests of HTTP clients.

    Serves on 127.0.0.1 from construction until ``close()``; also a context manager. Replies are taken
    from the script, one per request over all connections; then ``default`` answers. A ``route`` goes
    before both. Where a callable stands for a reply, it is called with the request after that was read
    whole, and returns the reply. When it fails, 500 is answered, and ``close()`` raises what it raised.
    Arguments, here and of replies, are checked where they are given: TypeError and ValueError name the parameter.

    ``patience`` bounds every wait, in seconds. ``idle_limit`` plays a middlebox: what arrives on a
    connection idle for longer is not processed but answered with a reset (``idle_fault="reset"``) or
    swallowed for good ("drop"). ``receive_buffer`` sets SO_RCVBUF: a client that is not read from is
    stopped after about so many bytes. TLS needs trustme (``pip install trustme``). POSIX only.

    State: the ledger and the set of open connections, both guarded by the ledger's condition. All methods
    may be called from any thread.
    """

    host: str
    """The address that it serves on: "127.0.0.1"."""
    port: int
    """The port that it serves on."""
    url: str
    """``http://host:port``, or ``https://host:port`` with TLS; without a path."""
    ca_path: str | None
    """The file with the certificate of its CA, for ``verify=``, until ``close()``; None without TLS."""

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
        check(tls=tls, patience=patience, idle_limit=idle_limit, idle_fault=idle_fault)
        check(listen_backlog=listen_backlog, receive_buffer=receive_buffer)
        self._ledger = Ledger(replies, default)
        self._changed = self._ledger.changed
        self._open: set[Connection] = set()
        context, pem = loopback_tls() if tls else (None, b"")
        self._terms = Terms(context, idle_limit, Reset() if idle_fault == "reset" else BlackHole())
        self._listener = Listener(
            self._accept, patience=patience, backlog=listen_backlog, receive_buffer=receive_buffer
        )
        self.host = "127.0.0.1"
        self.port = self._listener.port
        self.url = f"{'https' if tls else 'http'}://{self.host}:{self.port}"
        self.ca_path = None
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        if tls:
            self._directory = tempfile.TemporaryDirectory(prefix="fault-server-")
            path = Path(self._directory.name, "ca.pem")
            path.write_bytes(pem)
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

        Raises, once, what a callable in the place of a reply raised first, or a TypeError where it returned no
        reply. The end of a ``with`` block does so too, unless an exception leaves the block.
        """
        self._release()
        failure = self._ledger.take_failure()
        if failure is not None:
            raise failure

    def _release(self) -> None:
        self._listener.close()
        if self._directory is not None:
            self._directory.cleanup()

    @property
    def default(self) -> Answer:
        """What answers when the script is used up; may be set."""
        return self._ledger.default

    @default.setter
    def default(self, answer: Answer) -> None:
        self._ledger.default = checked("default", answer)

    def script(self, *replies: Answer) -> None:
        """Add replies to the script."""
        answers = [checked("replies (an item)", reply) for reply in replies]
        with self._changed:
            self._ledger.replies.extend(answers)

    def route(self, path: str, reply: Answer) -> None:
        """Answer all requests of that path, whatever their query, with the reply."""
        check(path=path)
        answer = checked("reply", reply)
        with self._changed:
            self._ledger.routes[path] = answer

    def on_connect(self, *replies: Reply | None) -> None:
        """Take the steps of a reply on each next connection before a byte is read; None: nothing special."""
        for reply in replies:
            instance("replies (an item)", reply, Reply, NoneType)
        with self._changed:
            self._ledger.greetings.extend(replies)

    def on_handshake(self, *replies: Reply | None) -> None:
        """Take the steps of a reply on each next TLS connection once its ClientHello came; None: nothing."""
        for reply in replies:
            instance("replies (an item)", reply, Reply, NoneType)
        with self._changed:
            self._ledger.handshakes.extend(replies)

    @property
    def accepted(self) -> int:
        """Connections accepted."""
        with self._changed:
            return len(self._ledger.connections)

    @property
    def connections(self) -> tuple[ConnectionRecord, ...]:
        """The connections accepted, in order."""
        with self._changed:
            return tuple(self._ledger.connections)

    @property
    def open_connections(self) -> int:
        """Connections that have not ended."""
        with self._changed:
            return len(self._open)

    @property
    def requests(self) -> tuple[ReceivedRequest, ...]:
        """The requests whose head was read, in order."""
        with self._changed:
            return tuple(self._ledger.requests)

    @property
    def applied(self) -> int:
        """Requests acted upon: read whole, with a reply that applies."""
        with self._changed:
            return sum(self._ledger.applied.values())

    @property
    def applied_keys(self) -> Counter[str]:
        """How often each Idempotency-Key was applied; requests without one are under ""."""
        with self._changed:
            return Counter(self._ledger.applied)

    @property
    def swallowed(self) -> int:
        """Requests that came on a frozen connection, or on one idle beyond the limit."""
        with self._changed:
            return self._ledger.swallowed

    def reset_counts(self) -> None:
        """Forget counts and records; connections stay open, and their numbers go on."""
        self._ledger.forget()

    def wait_for(self, predicate: Callable[[FaultServer], bool], timeout: float = 5.0) -> bool:
        """Whether the predicate came true within so many seconds; asked anew at each change."""
        check(predicate=predicate, timeout=timeout)
        with self._changed:
            return self._changed.wait_for(lambda: predicate(self), timeout)

    def wait_for_requests(self, count: int, timeout: float = 5.0) -> bool:
        """Whether the heads of so many requests were read in time."""
        check(count=count)
        return self.wait_for(lambda server: len(server.requests) >= count, timeout)

    def wait_for_disconnects(self, count: int, timeout: float = 5.0) -> bool:
        """Whether so many connections ended in time."""
        check(count=count)
        return self.wait_for(
            lambda server: sum(1 for one in server.connections if one.ended) >= count, timeout
        )

    def kill_idle(self, how: IdleEnd = "reset") -> int:
        """End every connection that waits for a request; returns, when that is done, how many."""
        check(how=how)
        with self._changed:
            killed = self._order(Reset() if how == "reset" else Fin())
            self._changed.wait_for(lambda: not any(one in self._open for one in killed), GRACE)
            return len(killed)

    def push_idle(self, data: bytes) -> int:
        """Send unsolicited bytes on every connection that waits for a request; returns on how many."""
        with self._changed:
            pushed = self._order(Send(data))
            self._changed.wait_for(
                lambda: not any(one.order and one in self._open for one in pushed), GRACE
            )
            return len(pushed)

    def freeze_idle(self) -> int:
        """Never again answer on connections that now wait for a next request; returns how many."""
        with self._changed:
            frozen = self._order(BlackHole())
            for connection in frozen:
                connection.state = State.FROZEN
            return len(frozen)

    def _order(self, step: Step) -> list[Connection]:
        self._changed.wait_for(
            lambda: not any(one.state is State.SETTLING for one in self._open), GRACE
        )
        idle = [one for one in self._open if one.state is State.IDLE]
        for connection in idle:
            connection.give(step)
        return idle

    def _accept(self, wire: Wire) -> Callable[[], None]:
        with self._changed:
            connection = Connection(wire, self._ledger, self._ledger.accept(), self._terms)
            greeting = next_of(self._ledger.greetings)
            handshake = next_of(self._ledger.handshakes) if self._terms.tls else None
            self._open.add(connection)
        return lambda: connection.run(greeting, handshake, self._open.discard)
