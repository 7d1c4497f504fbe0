"""Serves one connection: greeting, handshake, then each request as the script says."""

from __future__ import annotations

import enum
import math
import socket
import time
from dataclasses import dataclass
from types import NoneType
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from resilient_requests.testing._arguments import LONGEST, check, check_choice
from resilient_requests.testing._request import ReceivedRequest, RequestBody, read_head
from resilient_requests.testing._script import respond
from resilient_requests.testing._socket import BLOCK, Ended, ServerSocket
from resilient_requests.testing._steps import (
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
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from resilient_requests.testing._certificates import ServerTLS
    from resilient_requests.testing._recorder import ConnectionRecord, Recorder
    from resilient_requests.testing._socket import How, Side
    from resilient_requests.testing._steps import Reading


IdleFault: TypeAlias = Literal["reset", "drop"]

_MOST = 2**31 - 1  # of a C int
_SHORTEST = 0.001  # poll() waits whole milliseconds


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """The options of a `FaultServer`. Raises TypeError or ValueError naming the parameter."""

    tls: bool
    patience: float
    idle_limit: float | None
    idle_fault: IdleFault
    listen_backlog: int
    receive_buffer: int | None

    def __post_init__(self) -> None:
        check("tls", self.tls, bool)
        check("patience", self.patience, float, int, least=_SHORTEST, most=LONGEST)
        check("idle_limit", self.idle_limit, float, int, NoneType, least=0, most=LONGEST)
        check_choice("idle_fault", self.idle_fault, get_args(IdleFault))
        check("listen_backlog", self.listen_backlog, int, least=0, most=_MOST)
        check("receive_buffer", self.receive_buffer, int, NoneType, least=1, most=_MOST)

    def idle_step(self, idle_for: float) -> Reset | BlackHole | None:
        """Return the fault of a connection that was idle for so many seconds, None for none."""
        if self.idle_limit is None or idle_for <= self.idle_limit:
            return None
        return Reset() if self.idle_fault == "reset" else BlackHole()


class State(enum.Enum):
    """The state of a connection as its peer sees it."""

    BUSY = enum.auto()
    SETTLING = enum.auto()  # idle for the peer, but our thread does not wait for a request yet
    IDLE = enum.auto()
    FROZEN = enum.auto()


class Connection:
    """One connection, served by one thread.

    An order is a step that an idle connection takes instead of waiting for a request. The
    recorder's condition guards ``state`` and ``order``.
    """

    def __init__(
        self,
        sock: ServerSocket,
        recorder: Recorder,
        options: ServerOptions,
        tls: ServerTLS | None,
    ) -> None:
        self.state = State.BUSY
        self.order: Step | None = None
        self._socket = sock
        self._recorder = recorder
        self._record: ConnectionRecord = recorder.accept()
        self._options = options
        self._tls = tls
        self._body: RequestBody | None = None
        # An order makes the far end readable, which ends the wait for a request.
        self._ordered, self._far_end = socket.socketpair()

    def give(self, order: Step) -> None:
        """Have an idle connection take this step; the condition must be held."""
        self.order = order
        if isinstance(order, BlackHole):
            self.state = State.FROZEN
        self._far_end.send(b"!")

    def run(
        self,
        greeting: Reply | None,
        handshake: Reply | None,
        ended: Callable[[Connection], None],
    ) -> None:
        """Serve until the connection is over, then call ``ended`` under the condition."""
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
            self._socket.sock.close()
            with self._recorder.changed:
                ended(self)
                self._recorder.end(self._record, how, by)
            self._ordered.close()
            self._far_end.close()

    def _greet(self, greeting: Reply | None, handshake: Reply | None) -> None:
        if greeting is None and handshake is None:
            self._enter(State.SETTLING)
        self._take(greeting.steps if greeting else ())
        if self._tls is not None:
            self._socket.need()
            self._take(handshake.steps if handshake else ())
            self._socket.start_tls(self._tls.context)

    def _await_request(self) -> None:
        since = time.monotonic()
        self._enter(State.IDLE)
        while not self._has_request():
            if time.monotonic() - since >= self._options.patience:
                self._socket.fin(notify=True)
        step = self._options.idle_step(time.monotonic() - since)
        if step is not None:
            self._recorder.swallow()
            self._perform(step)

    def _has_request(self) -> bool:
        """Wait for a request or an order, and follow the order; True for a request."""
        arrived = bool(self._socket.buffer) or self._socket.fill(self._ordered)
        with self._recorder.changed:
            order = self.order
            if order is None:
                self.state = State.BUSY if arrived else self.state
                return arrived
        if isinstance(order, BlackHole):
            while not self._socket.buffer:
                self._socket.need()
            self._recorder.swallow()
        self._perform(order)
        with self._recorder.changed:
            self.order = None
            self._recorder.changed.notify_all()
        return False

    def _enter(self, state: State) -> None:
        with self._recorder.changed:
            self.state = state
            self._recorder.changed.notify_all()

    def _exchange(self) -> None:
        head = read_head(self._socket)
        body = self._body = RequestBody(self._socket, head)
        request, answer = self._recorder.receive(head, self._record)
        if not isinstance(answer, Reply):
            self._read(request, body)
            answer = self._ask(answer, request)
        self._read(request, body, answer.read, answer.slow_read)
        if answer.applies and request.complete:
            self._recorder.apply(request)
        steps = answer.steps
        if head.method == "HEAD":  # RFC 9110 9.3.2: the head of a GET, and no body
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
            self._socket.fin(notify=True)

    def _ask(self, answer: Callable[[ReceivedRequest], Reply], request: ReceivedRequest) -> Reply:
        try:
            reply: object = answer(request)
            if isinstance(reply, Reply):
                return reply
            error: BaseException = TypeError(
                f"{answer!r} must return a Reply, not {type(reply).__name__}"
            )
        # close() raises it again. pytest.fail() raises an exception that is not an Exception.
        except BaseException as raised:  # noqa: BLE001
            error = raised
        self._recorder.fail(error)
        return respond(type(error).__name__, status=500, applies=False)

    def _read(
        self,
        request: ReceivedRequest,
        body: RequestBody,
        upto: Reading = "all",
        slow: tuple[int, float] | None = None,
    ) -> None:
        limit = {"all": math.inf, "head": 0}[upto] if isinstance(upto, str) else upto
        most, seconds = slow or (BLOCK, 0.0)
        while not body.done and (left := limit - request.size) > 0:
            piece = body.read(int(min(most, left)))
            self._recorder.grow(request, piece, complete=body.done)
            if seconds and not body.done:
                self._socket.pause(seconds)

    def _take(self, steps: tuple[Step, ...]) -> None:
        for step in steps:
            self._perform(step)

    def _perform(self, step: Step) -> None:
        match step:
            case Send():
                self._socket.send(step.data + step.body)
            case Pause():
                self._socket.pause(step.until)
            case Silence():
                self._socket.silence()
            case BlackHole():
                self._socket.black_hole()
            case Reset():
                self._socket.reset()
            case Fin():
                is_unread = self._body is None or not self._body.done
                self._socket.fin(notify=step.notify, unread=is_unread)
            case FinThenReset():
                self._socket.fin_then_reset()
