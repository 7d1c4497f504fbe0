"""The script and the records of a server, under one condition."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import NoneType
from typing import TYPE_CHECKING, TypeAlias

from resilient_requests.testing._arguments import check
from resilient_requests.testing._request import ReceivedRequest, RequestHead
from resilient_requests.testing._steps import Reply

if TYPE_CHECKING:
    from resilient_requests.testing._socket import How, Side

Answer: TypeAlias = Reply | Callable[[ReceivedRequest], Reply]


@dataclass
class ConnectionRecord:
    """An accepted connection; the server's threads go on writing it until it has ended.

    ``number`` counts from 1, ``at`` is monotonic time, ``requests`` is the number of requests.
    ``ended`` is "fin", "reset", "error" (bad HTTP or TLS, or the end of patience), and ``ended_by``
    "peer" or "server"; both are None while the connection is open.
    """

    number: int
    at: float
    requests: int = 0
    ended: How | None = None
    ended_by: Side | None = None


class Recorder:
    """The script of a server, its counts and its records.

    ``changed`` guards all of it, and is notified at each change. Any thread may call the methods.
    Raises TypeError naming the parameter for a reply of another type.
    """

    def __init__(self, replies: Iterable[Answer], default: Answer) -> None:
        self.changed = threading.Condition()
        self._replies: deque[Answer] = deque()
        self._routes: dict[str, Answer] = {}
        self._greetings: deque[Reply | None] = deque()
        self._handshakes: deque[Reply | None] = deque()
        self._ever_accepted = 0
        self._failure: BaseException | None = None
        self.default = default
        self.script(replies)
        self.forget()

    @property
    def default(self) -> Answer:
        """The answer when the script is used up."""
        return self._default

    @default.setter
    def default(self, answer: Answer) -> None:
        check("default", answer, Reply, Callable)
        self._default = answer

    def script(self, replies: Iterable[Answer]) -> None:
        """Add replies to the script."""
        for reply in (replies := tuple(replies)):
            check("replies (an item)", reply, Reply, Callable)
        with self.changed:
            self._replies.extend(replies)

    def route(self, path: str, reply: Answer) -> None:
        """Answer all requests of that path with the reply."""
        check("path", path, str)
        # Targets that are no paths: "*", "host:port" of CONNECT, "" of a URL without a path.
        if "?" in path or not (path in {"", "*"} or path.startswith("/") or ":" in path):
            raise ValueError(f"path must begin with '/' and have no query, not be {path!r}")
        check("reply", reply, Reply, Callable)
        with self.changed:
            self._routes[path] = reply

    def greet(self, replies: Iterable[Reply | None], *, after_hello: bool) -> None:
        """Script the first steps of the next connections, for TLS those after their ClientHello."""
        for reply in (replies := tuple(replies)):
            check("replies (an item)", reply, Reply, NoneType)
        with self.changed:
            (self._handshakes if after_hello else self._greetings).extend(replies)

    def greeting(self, *, after_hello: bool) -> Reply | None:
        """Take the first steps of the next connection; None if none are scripted."""
        with self.changed:
            script = self._handshakes if after_hello else self._greetings
            return script.popleft() if script else None

    def forget(self) -> None:
        """Forget counts and records, not the scripts."""
        with self.changed:
            self.connections: list[ConnectionRecord] = []
            self.requests: list[ReceivedRequest] = []
            self.applied: Counter[str] = Counter()
            self.swallowed = 0

    def accept(self) -> ConnectionRecord:
        """Count a connection, and return its record."""
        with self.changed:
            self._ever_accepted += 1
            record = ConnectionRecord(self._ever_accepted, time.monotonic())
            self.connections.append(record)
            self.changed.notify_all()
            return record

    def receive(
        self, head: RequestHead, record: ConnectionRecord
    ) -> tuple[ReceivedRequest, Answer]:
        """Count a request, and return it with its answer."""
        with self.changed:
            request = ReceivedRequest(
                head.method,
                head.target,
                head.headers,
                connection=record.number,
                number=len(self.requests) + 1,
                at=time.monotonic(),
                complete=not head.has_body,
            )
            record.requests += 1
            self.requests.append(request)
            self.changed.notify_all()
            if request.path in self._routes:
                return request, self._routes[request.path]
            return request, self._replies.popleft() if self._replies else self.default

    def grow(self, request: ReceivedRequest, piece: bytes, *, complete: bool) -> None:
        """Add to the body of a request."""
        with self.changed:
            request._add(piece, complete=complete)
            self.changed.notify_all()

    def apply(self, request: ReceivedRequest) -> None:
        """Count a request that is acted upon."""
        with self.changed:
            self.applied[request.header("Idempotency-Key") or ""] += 1
            self.changed.notify_all()

    def swallow(self) -> None:
        """Count a request that nobody reads."""
        with self.changed:
            self.swallowed += 1
            self.changed.notify_all()

    def end(self, record: ConnectionRecord, how: How, by: Side) -> None:
        """Note the end of a connection."""
        with self.changed:
            record.ended, record.ended_by = how, by
            self.changed.notify_all()

    def fail(self, failure: BaseException) -> None:
        """Keep the first failure of a callable."""
        with self.changed:
            if self._failure is None:
                self._failure = failure

    def take_failure(self) -> BaseException | None:
        """Return the first failure of a callable, once; None if there was none."""
        with self.changed:
            failure, self._failure = self._failure, None
            return failure
