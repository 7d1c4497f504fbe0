"""Serves one connection: greeting, handshake, then request by request what the ledger says."""

from __future__ import annotations

import enum
import math
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from resilient_requests.testing._request import Body, ReceivedRequest, read_head
from resilient_requests.testing._script import (
    BlackHole,
    Fin,
    FinThenReset,
    Pause,
    ReadRest,
    Reply,
    Reset,
    Send,
    Silence,
    Step,
    respond,
)
from resilient_requests.testing._wire import BLOCK, Ended, Wire

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from resilient_requests.testing._ledger import ConnectionRecord, Ledger
    from resilient_requests.testing._options import Reading
    from resilient_requests.testing._wire import How, Side


class State(enum.Enum):
    """What the peer may think of its connection."""

    BUSY = enum.auto()
    SETTLING = enum.auto()  # idle to the peer, while our thread is not back at waiting yet
    IDLE = enum.auto()
    FROZEN = enum.auto()


@dataclass(frozen=True)
class Terms:
    """What holds for every connection of a server."""

    tls: ssl.SSLContext | None
    idle_limit: float | None
    idle_step: Step


class Connection:
    """One connection, served by one thread; ``state`` and ``order`` are guarded by the ledger's condition.

    An order is a step to take instead of waiting for a request.
    """

    def __init__(self, wire: Wire, ledger: Ledger, record: ConnectionRecord, terms: Terms) -> None:
        self.record = record
        self.state = State.BUSY
        self.order: Step | None = None
        self._wire = wire
        self._ledger = ledger
        self._terms = terms
        self._body: Body | None = None
        self._bell, self._rope = socket.socketpair()

    def give(self, order: Step) -> None:
        """Have an idle connection take this step; the condition must be held."""
        self.order = order
        self._rope.send(b"!")

    def run(
        self, greeting: Reply | None, handshake: Reply | None, ended: Callable[[Connection], None]
    ) -> None:
        """Serve until the connection is over, then call ``ended``."""
        how: How = "error"
        by: Side = "server"
        try:
            self._greet(greeting, handshake)
            while True:
                self._await_request()
                self._exchange()
        except Ended as end:
            how, by = end.how, end.by
        finally:
            self._wire.sock.close()
            with self._ledger.changed:
                self.record.ended, self.record.ended_by = how, by
                ended(self)
                self._ledger.changed.notify_all()
            self._bell.close()
            self._rope.close()

    def _greet(self, greeting: Reply | None, handshake: Reply | None) -> None:
        if greeting is None and handshake is None:
            self._enter(State.SETTLING)
        for step in greeting.steps if greeting else ():
            self._perform(step)
        if self._terms.tls is None:
            return
        self._wire.need()
        for step in handshake.steps if handshake else ():
            self._perform(step)
        self._wire.start_tls(self._terms.tls)

    def _await_request(self) -> None:
        since = time.monotonic()
        self._enter(State.IDLE)
        while not self._is_called():
            if time.monotonic() - since >= self._wire.patience:
                self._wire.fin(notify=True)
        limit = self._terms.idle_limit
        if limit is not None and time.monotonic() - since > limit:
            self._ledger.swallow()
            self._perform(self._terms.idle_step)

    def _is_called(self) -> bool:
        """Wait for a request or an order, and follow the order; True for a request."""
        arrived = bool(self._wire.buffer) or self._wire.fill(self._bell)
        with self._ledger.changed:
            order = self.order
            if order is None:
                self.state = State.BUSY if arrived else self.state
                return arrived
        if isinstance(order, BlackHole):
            while not self._wire.buffer:
                self._wire.need()
            self._ledger.swallow()
        self._perform(order)
        with self._ledger.changed:
            self.order = None
            self._ledger.changed.notify_all()
        return False

    def _enter(self, state: State) -> None:
        with self._ledger.changed:
            self.state = state
            self._ledger.changed.notify_all()

    def _exchange(self) -> None:
        head = read_head(self._wire)
        body = self._body = Body(self._wire, head)
        request, answer = self._ledger.receive(head, self.record)
        if not isinstance(answer, Reply):
            self._read(request, body)
            answer = self._ask(answer, request)
        self._read(request, body, answer.read, answer.slow_read)
        if answer.applies and request.complete:
            self._ledger.apply(request)
        steps = answer.steps
        if head.method == "HEAD":
            steps = tuple(Send(step.data) if isinstance(step, Send) else step for step in steps)
        for number, step in enumerate(steps, 1):
            if number == len(steps) and isinstance(step, Send):
                self._enter(State.SETTLING)
            if isinstance(step, ReadRest):
                self._read(request, body)
            else:
                self._perform(step)
        self._read(request, body)
        if head.wants_close:
            self._wire.fin(notify=True)

    def _ask(self, answer: Callable[[ReceivedRequest], Reply], request: ReceivedRequest) -> Reply:
        try:
            reply: object = answer(request)
            if isinstance(reply, Reply):
                return reply
            raise TypeError(f"{answer!r} must return a Reply, not {type(reply).__name__}")  # noqa: TRY301
        except BaseException as error:  # noqa: BLE001  # close() raises it again; that of pytest.fail() is no Exception
            self._ledger.fail(error)
            return respond(type(error).__name__, status=500, applies=False)

    def _read(
        self,
        request: ReceivedRequest,
        body: Body,
        upto: Reading = "all",
        slow: tuple[int, float] | None = None,
    ) -> None:
        limit = {"all": math.inf, "head": 0}[upto] if isinstance(upto, str) else upto
        most, seconds = slow or (BLOCK, 0.0)
        while not body.done and (left := limit - request.size) > 0:
            piece = body.read(int(min(most, left)))
            self._ledger.grow(request, piece, complete=body.done)
            if seconds and not body.done:
                self._wire.pause(seconds)

    def _perform(self, step: Step) -> None:
        match step:
            case Send():
                self._wire.send(step.data + step.body)
            case Pause():
                self._wire.pause(step.until)
            case Silence():
                self._wire.silence()
            case BlackHole():
                self._wire.black_hole()
            case Reset():
                self._wire.reset()
            case Fin():
                self._wire.fin(notify=step.notify, unread=self._body is None or not self._body.done)
            case FinThenReset():
                self._wire.fin_then_reset()
