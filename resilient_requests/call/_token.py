"""The token of one call: the end of the call, and the wake-up of the thread that it blocks."""

from __future__ import annotations

import _socket
import enum
import os
import socket
import threading
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Literal, Protocol

import requests

from resilient_requests.call._clock import Clock, boot, now
from resilient_requests.call._scope import CancelScope, current_scope
from resilient_requests.exceptions import Cancelled, DeadlineExceeded

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CallsInFlight", "CancelToken", "Wakeable", "shut_down"]

LimitName = Literal["total", "scope"]
_KNOBS: dict[LimitName, str] = {"total": "Timeouts.total", "scope": "the CancelScope's timeout"}

# A lock's timeout uses the monotonic clock, which stops while the machine sleeps. After each nap of
# this many seconds, boot time says how much is left.
_LONGEST_NAP = 5.0


class Wakeable(Protocol):
    """A socket, known by its descriptor."""

    def fileno(self) -> int:
        """Return the descriptor."""


def shut_down(sock: Wakeable) -> None:
    """Wake every thread that is blocked on a socket; harmless if it is closed.

    ``SSLSocket.shutdown()`` is bypassed: it drops the TLS object, and a reader would then get
    ciphertext as body.
    """
    with suppress(OSError, ValueError):
        if isinstance(sock, _socket.socket):
            _socket.socket.shutdown(sock, socket.SHUT_RDWR)
            return
        # gevent's sockets and urllib3's TLS in TLS lack it: a twin of the descriptor has it.
        twin = _socket.socket(fileno=os.dup(sock.fileno()))
        try:
            twin.shutdown(socket.SHUT_RDWR)
        finally:
            twin.close()


class End(enum.Enum):
    """The reason for the end of a call, as its error gives it."""

    CANCELLED = "cancelled"
    SHUT_DOWN = "the adapter was shut down (ResilientAdapter.shutdown)"
    FORKED = "the call was begun in another process, before a fork: its connection is not ours"


class Timed(Protocol):
    """An attempt, by its beginning."""

    since: float


class CallsInFlight:
    """The calls of one adapter that have not ended, held weakly; used from any thread."""

    def __init__(self) -> None:
        self._refs: dict[int, weakref.ref[CancelToken]] = {}
        _OF_PROCESS[id(self)] = self

    def add(self, token: CancelToken) -> None:
        """A call has begun."""
        refs, key = self._refs, id(token)
        refs[key] = weakref.ref(token, lambda _: refs.pop(key, None))

    def remove(self, token: CancelToken) -> None:
        """A call has ended; harmless if repeated."""
        self._refs.pop(id(token), None)

    def all(self) -> list[CancelToken]:
        """Return the calls; the copy of the references is atomic."""
        return [token for ref in list(self._refs.values()) if (token := ref()) is not None]

    @staticmethod
    def of_process() -> list[CancelToken]:
        """Return the calls of all adapters, of those too that are gone and left a stream."""
        held = [calls for ref in _OF_PROCESS.valuerefs() if (calls := ref()) is not None]
        return [token for calls in held for token in calls.all()]


# Weak: an adapter, or a call that has outlived it, keeps its own.
_OF_PROCESS: weakref.WeakValueDictionary[int, CallsInFlight] = weakref.WeakValueDictionary()


class CancelToken:
    """One send with its retries and its response, as something that can be ended.

    `cancel` and `abort` may come from any thread. Mutable state: the end, the socket that the
    call is blocked on and the alarm that it sleeps on, guarded by one lock. The lock is re-entrant,
    since a signal handler or a ``__del__`` may cancel on the thread that holds it. ``total`` is in
    seconds, None is no limit. ``pid``: None asks the system. What a diagnosis asks takes no lock:
    each answer is one value, as it is at that moment.
    """

    end: End | None = None  # a deadline that has passed does not set it
    sock: Wakeable | None = None  # that is used now
    limit_name: LimitName = "total"  # what sets the deadline
    is_sending = True  # no response has been handed out
    _id: str | None = None
    _alarm: threading.Lock | None = None
    _scopes: tuple[CancelScope, ...] = ()
    # Weak: an attempt refers to its token, and both are to be freed without the collector.
    attempt: weakref.ref[Timed] | None = None  # that runs, or has run last
    since: float | None = None  # boot time at which the first attempt began
    wakes_at: float | None = None  # boot time at which the next attempt is due

    def __init__(
        self,
        *,
        clock: Clock = now,
        total: float | None = None,
        pid: int | None = None,
        calls: CallsInFlight | None = None,
    ) -> None:
        self.clock = clock
        # Boot time now, in seconds. Each read asks for it, so it costs no look at all clocks.
        self.boot: Callable[[], float] = boot if clock is now else lambda: clock().boot
        self._lock = threading.RLock()
        self.pid = os.getpid() if pid is None else pid
        self.deadline = None if total is None else self.boot() + total  # boot time
        self._calls = calls
        if calls is not None:
            calls.add(self)
        if (scope := current_scope()) is not None:
            self._obey(scope)

    def __repr__(self) -> str:
        return f"<CancelToken {'running' if self.end is None else self.end.name.lower()}>"

    @property
    def id(self) -> str:
        """The name of the call in events; made when it is first asked for."""
        known: str | None = self._id
        if known is None:
            # 48 random bits tell the calls of a log apart, also in forked workers. Atomic: a
            # diagnosis may ask in another thread, or in a signal handler in between.
            known = vars(self).setdefault("_id", os.urandom(6).hex())
        return known

    def begin(self, attempt: Timed) -> None:
        """An attempt of the call begins. Raises as `check`."""
        self.attempt, self.wakes_at = weakref.ref(attempt), None
        if self.since is None:
            self.since = attempt.since
        self.check()

    def cancel(self) -> None:
        """End the call at once, from any thread or signal handler; it raises `Cancelled`."""
        self._finish(End.CANCELLED)

    def abort(self) -> None:
        """End the call at once because its adapter was shut down; it raises ConnectionError."""
        self._finish(End.SHUT_DOWN)

    def check(self) -> None:
        """Raise the error of the call's end, if it has ended.

        That is `Cancelled`, `DeadlineExceeded`, or ConnectionError after a shutdown or a fork.
        """
        if self.end is not None:
            if self.end is End.CANCELLED:
                raise Cancelled
            raise requests.ConnectionError(self.end.value)
        if self.deadline is not None and self.boot() >= self.deadline:
            raise DeadlineExceeded(
                f"the call's total time is up ({_KNOBS[self.limit_name]} sets the limit)"
            )

    def remaining(self) -> float | None:
        """Return the seconds until the deadline, at least 0; None without one."""
        return None if self.deadline is None else max(self.deadline - self.boot(), 0.0)

    def clip(self, limit: float | None) -> float | None:
        """Return the timeout of the next blocking operation in seconds; None is no limit.

        It is ``limit``, or less if the deadline comes first. Raises as `check`.
        """
        # Not asked while the call sends, since a sender knows its process: a system call per read
        # costs 1 % of a short call.
        if not self.is_sending and self.pid != os.getpid():
            self.disown()  # for uWSGI, which runs no at-fork hook
        if self.end is None and self.deadline is None:
            return limit
        self.check()
        remaining = self.remaining()
        if remaining is None:
            return limit
        # A millisecond more: an early timeout would be taken for the peer's silence, not for the
        # deadline.
        remaining += 0.001
        return remaining if limit is None else min(limit, remaining)

    def watch(self, sock: Wakeable | None) -> None:
        """Set the socket to shut down if this call ends; None: no socket. Raises as `check`."""
        with self._lock:
            self.sock = sock
        self.check()

    def sleep(self, seconds: float) -> None:
        """Wait, less if the deadline comes first; raise as `check` as soon as the call ends."""
        alarm = threading.Lock()
        alarm.acquire()
        with self._lock:
            self._alarm = alarm
        self.wakes_at = until = self.boot() + seconds
        self.check()
        while (left := until - self.boot()) > 0:
            # Not an Event: setting one takes its lock, which a signal handler would wait for on the
            # thread that holds it. Releasing a plain lock cannot block.
            woken = alarm.acquire(timeout=min(self.clip(left) or 0.0, _LONGEST_NAP))
            self.check()
            if woken:
                break

    def disown(self) -> None:
        """Forget the parent's connection, in a forked child: a read here would take its bytes."""
        # The old lock may be held by a thread of the parent, which does not exist here.
        self._lock = threading.RLock()
        self.sock = None
        self.end = self.end or End.FORKED

    def release(self) -> None:
        """Forget the socket before it serves another call; leave if the sender is done."""
        with self._lock:
            self.sock = None
        if not self.is_sending:
            self.leave()

    def sent(self) -> None:
        """The sender is done. A response that is still open keeps the call alive."""
        self.is_sending = False
        with self._lock:
            is_open = self.sock is not None
        if not is_open:
            self.leave()

    def leave(self) -> None:
        """The call is over: its scopes and its adapter forget it."""
        self._alarm = None
        if self._calls is not None:
            self._calls.remove(self)
        for scope in self._scopes:
            scope._let_go(self)

    def succeed(self, earlier: CancelToken) -> None:
        """Continue an earlier call: take over its name, its scopes, its deadline and its end."""
        self._id = earlier.id
        self.attempt, self.since = earlier.attempt, earlier.since
        self._end_by(earlier.deadline, earlier.limit_name)
        for scope in earlier._scopes:
            if scope not in self._scopes:
                self._obey(scope)
        self.end = self.end or earlier.end

    def _obey(self, scope: CancelScope) -> None:
        self._scopes += (scope,)
        self._end_by(scope._take_in(self), "scope")
        # After joining: a cancel in between is then seen here or by the scope.
        if scope.is_cancelled:
            self.end = self.end or End.CANCELLED

    def _end_by(self, deadline: float | None, name: LimitName) -> None:
        if deadline is not None and (self.deadline is None or deadline < self.deadline):
            self.deadline, self.limit_name = deadline, name

    def _finish(self, end: End) -> None:
        with self._lock:
            self.end = self.end or end
            sock, alarm = self.sock, self._alarm
            if alarm is not None:
                with suppress(RuntimeError):  # released already
                    alarm.release()
            # A forked child shares the parent's connection, and a shutdown would end the parent's
            # call.
            if sock is not None and self.pid == os.getpid():
                shut_down(sock)
