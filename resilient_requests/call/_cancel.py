"""Cancel scopes and deadlines, and the call that both can end."""

from __future__ import annotations

import _socket
import os
import socket
import threading
import uuid
import weakref
from contextlib import suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

import requests

from resilient_requests import _checks
from resilient_requests.call._clock import Clock, boot, now
from resilient_requests.exceptions import Cancelled, DeadlineExceeded

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self

__all__ = ["Call", "CancelScope", "Members", "current_scope", "shut_down"]

# A sleeping machine stops the monotonic clock under a lock's timeout: look at boot time again this often.
_LONGEST_NAP = 5.0


class _Wire(Protocol):
    def fileno(self) -> int: ...


def shut_down(wire: _Wire) -> None:
    """Wake every thread that is blocked on a socket; harmless where it is closed.

    Never through ``SSLSocket.shutdown()``: that drops the TLS object, and a reader would get ciphertext as body.
    """
    with suppress(OSError, ValueError):
        if isinstance(wire, _socket.socket):
            _socket.socket.shutdown(wire, socket.SHUT_RDWR)
            return
        # gevent's sockets and urllib3's TLS in TLS are no stdlib sockets: shut down a twin of their descriptor.
        twin = _socket.socket(fileno=os.dup(wire.fileno()))
        try:
            twin.shutdown(socket.SHUT_RDWR)
        finally:
            twin.close()


_ENDED = {
    "shut down": "the adapter was shut down (ResilientAdapter.shutdown)",
    "begun in another process": "the call was begun in another process, before a fork: its connection is not ours",
}


def _tell_nobody(*facts: object, **more: object) -> None:
    pass


class Call:
    """One send with its retries and its response: what may end it, and what must be woken then.

    Mutable state: the reason it ended, the socket it is blocked on and the alarm it sleeps on, guarded by one
    re-entrant lock, since a signal handler or a ``__del__`` may cancel on the thread that holds it.
    """

    def __init__(
        self, *, clock: Clock = now, total: float | None = None, pid: int | None = None
    ) -> None:
        self.clock = clock
        # The present boot time in seconds. Asked for so often that it must not cost a look at all three clocks.
        self.boot: Callable[[], float] = boot if clock is now else lambda: clock().boot
        self._lock = threading.RLock()
        self._pid = os.getpid() if pid is None else pid
        self._ended: str | None = None
        self._id: str | None = None
        self._wire: _Wire | None = None
        self._alarm: Any = None
        self._deadline = None if total is None else self.boot() + total
        self._limit_name = "Timeouts.total"
        self._memberships: list[Members] = []
        self.is_sending = True
        # Told once when a streamed response has ended: the attempt, the error or None, and how it went.
        self.stream_ended: Callable[..., object] = _tell_nobody
        self.story: Any = None  # who tells observers of it; None where no adapter of ours sends
        self._scope = scope = current_scope()
        if scope is not None:
            self._obey(scope)

    def __repr__(self) -> str:
        return f"<Call {self._ended or 'running'}>"

    @property
    def is_ended(self) -> bool:
        """Whether it was cancelled or shut down (not: whether a deadline has passed)."""
        return self._ended is not None

    @property
    def id(self) -> str:
        """What events call it; made when first asked for."""
        if self._id is None:
            self._id = uuid.uuid4().hex[:12]
        return self._id

    def cancel(self) -> None:
        """End the call at once, from any thread or signal handler; what it blocks on raises `Cancelled`."""
        self._end("cancelled")

    def abort(self) -> None:
        """End the call at once because its adapter was shut down; what it blocks on raises a ConnectionError."""
        self._end("shut down")

    def check(self) -> None:
        """Raise what has ended the call, if anything has: `Cancelled`, `DeadlineExceeded` or ConnectionError."""
        if self._ended is not None:
            if self._ended == "cancelled":
                raise Cancelled
            raise requests.ConnectionError(_ENDED[self._ended])
        if self._deadline is not None and self.boot() >= self._deadline:
            raise DeadlineExceeded(
                f"the call's total time is up ({self._limit_name} sets the limit)"
            )

    def remaining(self) -> float | None:
        """Return the seconds until the deadline, at least 0; None where there is none."""
        return None if self._deadline is None else max(self._deadline - self.boot(), 0.0)

    def clip(self, limit: float | None) -> float | None:
        """Return the timeout for the next blocking operation: ``limit``, or less where the deadline comes first.

        Raises as `check`.
        """
        # A sender knows its process, and a system call at each of its reads would cost 1 % of a short call.
        if not self.is_sending and self._pid != os.getpid():
            self.disown()  # uWSGI runs no at-fork hook
        if self._ended is None and self._deadline is None:
            return limit
        self.check()
        remaining = self.remaining()
        if remaining is None:
            return limit
        # A millisecond more: a timeout that fires a hair before the deadline would not look like the deadline.
        remaining += 0.001
        return remaining if limit is None else min(limit, remaining)

    def watch(self, wire: _Wire | None) -> None:
        """Name the socket that must be shut down to wake this call (None: there is none now). Raises as `check`."""
        with self._lock:
            self._wire = wire
        self.check()

    def sleep(self, seconds: float) -> None:
        """Wait, less where the deadline comes first; raises as `check` as soon as the call ends."""
        alarm = threading.Lock()
        alarm.acquire()
        with self._lock:
            self._alarm = alarm
        until = self.boot() + seconds
        self.check()
        while (left := until - self.boot()) > 0:
            # A plain lock: unlike an Event's, its release is safe in a signal handler on the waiting thread.
            woken = alarm.acquire(timeout=min(self.clip(left) or 0.0, _LONGEST_NAP))
            self.check()
            if woken:
                break

    def disown(self) -> None:
        """In a forked child: the connection is the parent's; reading it here would take the parent's bytes."""
        self._lock = threading.RLock()
        self._wire = None
        self._ended = self._ended or "begun in another process"

    def release(self) -> None:
        """Forget the socket, which is about to belong to somebody else; leave when the sender has left already."""
        with self._lock:
            self._wire = None
        if not self.is_sending:
            self.leave()

    def sent(self) -> None:
        """The sender is done; a response that is still open keeps the call alive."""
        self.is_sending = False
        with self._lock:
            is_open = self._wire is not None
        if not is_open:
            self.leave()

    def leave(self) -> None:
        """The call is over: nothing is left to end."""
        self._alarm = None
        for members in self._memberships:
            members.pop(id(self), None)

    def join(self, members: Members) -> None:
        """Be listed there until the call is over."""
        members[id(self)] = self
        self._memberships.append(members)

    def inherit(self, earlier: Call) -> None:
        """Go on in place of an earlier call: under its name, in its scope, to its deadline, ended if it was."""
        self._id = earlier.id
        if earlier._deadline is not None and (
            self._deadline is None or earlier._deadline < self._deadline
        ):
            self._deadline, self._limit_name = earlier._deadline, earlier._limit_name
        if earlier._scope is not None and earlier._scope is not self._scope:
            self._scope = earlier._scope
            self._obey(earlier._scope)
        self._ended = self._ended or earlier._ended

    def _obey(self, scope: CancelScope) -> None:
        self.join(scope._calls)
        if scope._deadline is not None and (
            self._deadline is None or scope._deadline < self._deadline
        ):
            self._deadline = scope._deadline
            self._limit_name = "the CancelScope's timeout"
        # After joining, so that a cancel in between is seen either here or by the scope.
        if scope.is_cancelled:
            self._ended = "cancelled"

    def _end(self, reason: str) -> None:
        with self._lock:
            self._ended = self._ended or reason
            wire, alarm = self._wire, self._alarm
            if alarm is not None:
                with suppress(RuntimeError):  # released already
                    alarm.release()
            # A forked child shares the parent's connection: to shut it down would end the parent's call.
            if wire is not None and self._pid == os.getpid():
                shut_down(wire)


_SCOPE: ContextVar[CancelScope | None] = ContextVar("resilient_requests_scope", default=None)


# Not WeakSets: those cannot be listed while another thread adds to them; ``valuerefs`` copies atomically.
Members = weakref.WeakValueDictionary[int, Call]


class CancelScope:
    """Everything begun inside (connect, send, wait for headers, backoff, streams) ends at once on ``cancel()``.

    ``timeout``: seconds from entering until everything inside raises `DeadlineExceeded`; None: no limit. Scopes
    nest: an outer one ends the inner ones, the earliest deadline counts. A stream keeps the scope in which it
    began. Entered once, by one thread; ``cancel()`` may come from any thread or signal handler, any number of
    times, before, inside and after. Name resolution cannot be interrupted: there the end comes when it returns.

    Raises TypeError or ValueError naming the parameter; RuntimeError when entered twice.
    """

    def __init__(self, timeout: float | None = None) -> None:
        self._timeout = _checks.duration("timeout", timeout)
        self._cancelled = False
        self._entered = self._exited = False
        self._outer: CancelScope | None = None
        self._deadline: float | None = None
        self._calls: Members = weakref.WeakValueDictionary()
        self._inner: weakref.WeakValueDictionary[int, CancelScope] = weakref.WeakValueDictionary()

    def __repr__(self) -> str:
        state = "cancelled" if self.is_cancelled else "left" if self._exited else "open"
        return f"<CancelScope {state} timeout={self._timeout}>"

    @property
    def is_cancelled(self) -> bool:
        """Whether this scope or one around it was cancelled (not: whether the timeout has passed)."""
        return self._cancelled or (self._outer is not None and self._outer.is_cancelled)

    def cancel(self) -> None:
        """End everything inside at once with `Cancelled`; returns without waiting for it."""
        self._cancelled = True
        members: list[weakref.ref[Call] | weakref.ref[CancelScope]] = [
            *self._calls.valuerefs(),
            *self._inner.valuerefs(),
        ]
        for ref in members:
            if (member := ref()) is not None:
                member.cancel()

    def __enter__(self) -> Self:
        if self._entered:
            raise RuntimeError("a CancelScope can be entered only once: make a new one")
        self._entered = True
        self._outer = outer = current_scope()
        if self._timeout is not None:
            self._deadline = boot() + self._timeout
        if outer is not None:
            outer._inner[id(self)] = self
            deadlines = [each for each in (self._deadline, outer._deadline) if each is not None]
            self._deadline = min(deadlines, default=None)
        _SCOPE.set(self)
        return self

    def __exit__(self, *exc_info: object) -> None:
        # Never by token: a generator may be closed by another thread, whose context knows nothing of this scope.
        self._exited = True
        if _SCOPE.get() is self:
            _SCOPE.set(current_scope())


def current_scope() -> CancelScope | None:
    """Return the innermost scope that is still open.

    A scope entered in a generator stays in the caller's context when another thread closes the generator: skip it.
    """
    scope = _SCOPE.get()
    while scope is not None and scope._exited:
        scope = scope._outer
    return scope
