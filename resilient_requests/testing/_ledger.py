"""What a server is to do next and what it has seen, under one condition."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from resilient_requests.testing._request import Head, ReceivedRequest
from resilient_requests.testing._script import Reply

if TYPE_CHECKING:
    from resilient_requests.testing._wire import How, Side

Answer: TypeAlias = Reply | Callable[[ReceivedRequest], Reply]
T = TypeVar("T")


@dataclass
class ConnectionRecord:
    """An accepted connection: how many requests it brought, how it ended, and which side ended it.

    ``ended`` is "fin", "reset", "error" (bad HTTP or TLS, or patience at its end) or None while open.
    ``at`` is monotonic time.
    """

    number: int
    at: float
    requests: int = 0
    ended: How | None = None
    ended_by: Side | None = None


class Ledger:
    """Scripts, counts and records; all of it is guarded by ``changed``, which is notified at each change."""

    def __init__(self, replies: Iterable[Answer], default: Answer) -> None:
        self.changed = threading.Condition()
        self.default = checked("default", default)
        self.replies = deque(checked("replies (an item)", reply) for reply in replies)
        self.routes: dict[str, Answer] = {}
        self.greetings: deque[Reply | None] = deque()
        self.handshakes: deque[Reply | None] = deque()
        self._ever_accepted = 0
        self._failure: BaseException | None = None
        self.forget()

    def forget(self) -> None:
        """Forget counts and records, not the scripts."""
        with self.changed:
            self.connections: list[ConnectionRecord] = []
            self.requests: list[ReceivedRequest] = []
            self.applied: Counter[str] = Counter()
            self.swallowed = 0

    def accept(self) -> ConnectionRecord:
        """Count a connection."""
        with self.changed:
            self._ever_accepted += 1
            record = ConnectionRecord(self._ever_accepted, time.monotonic())
            self.connections.append(record)
            self.changed.notify_all()
            return record

    def receive(self, head: Head, record: ConnectionRecord) -> tuple[ReceivedRequest, Answer]:
        """Count a request, and say how it is to be answered."""
        with self.changed:
            number = len(self.requests) + 1
            request = ReceivedRequest(
                head.method,
                head.target,
                head.headers,
                record.number,
                number,
                time.monotonic(),
                not head.has_body,
            )
            record.requests += 1
            self.requests.append(request)
            self.changed.notify_all()
            if request.path in self.routes:
                return request, self.routes[request.path]
            answer = next_of(self.replies)
            return request, self.default if answer is None else answer

    def grow(self, request: ReceivedRequest, piece: bytes, *, complete: bool) -> None:
        """Add to the body of a request."""
        with self.changed:
            request.add(piece, complete=complete)
            self.changed.notify_all()

    def apply(self, request: ReceivedRequest) -> None:
        """Count a request that is acted upon."""
        with self.changed:
            self.applied[request.header("Idempotency-Key") or ""] += 1
            self.changed.notify_all()

    def fail(self, failure: BaseException) -> None:
        """Keep what went wrong in a callable, unless something did before."""
        with self.changed:
            if self._failure is None:
                self._failure = failure

    def take_failure(self) -> BaseException | None:
        """What went wrong first, once; None when nothing did."""
        with self.changed:
            failure, self._failure = self._failure, None
            return failure

    def swallow(self) -> None:
        """Count a request that nobody will see."""
        with self.changed:
            self.swallowed += 1
            self.changed.notify_all()


def checked(name: str, answer: Answer) -> Answer:
    """Return ``answer``; raises TypeError naming the parameter unless it is a Reply or a callable."""
    if isinstance(answer, Reply) or callable(answer):
        return answer
    raise TypeError(f"{name} must be a Reply or a callable, not {type(answer).__name__}")


def next_of(script: deque[T]) -> T | None:
    """Take the next item; None when there is none."""
    return script.popleft() if script else None
