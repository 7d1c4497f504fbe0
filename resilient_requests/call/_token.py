"""The token of one call: what may end it, and what is woken then."""

from __future__ import annotations

import _socket
import enum
import os
import socket
import threading
import uuid
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

# A sleeping machine stops the monotonic clock under a lock's timeout: look at boot time again this often.
_LONGEST_NAP = 5.0


class Wakeable(Protocol):
    """A socket, by its descriptor."""

    def fileno(self) -> int:
        """Return the descriptor."""


def shut_down(sock: Wakeable) -> None:
    """Wake every thread that is blocked on a socket; harmless where it is closed.

    Never through ``SSLSocket.shutdown()``: that drops the TLS object, and a reader would get
    ciphertext as body.
    """
    with suppress(OSError, ValueError):
        if isinstance(sock, _socket.socket):
            _socket.socket.shutdown(sock, socket.SHUT_RDWR)
            return
        # gevent's sockets and urllib3's TLS in TLS are no stdlib sockets: shut down a twin of their descriptor.
        twin = _socket.socket(fileno=os.dup(sock.fileno()))
        try:
            twin.shutdown(socket.SHUT_RDWR)
        finally:
            twin.close()


class End(enum.Enum):
    """What has ended a call."""

    CANCELLED = "cancelled"
    SHUT_DOWN = "the adapter was shut down (ResilientAdapter.shutdown)"
    FORKED = "the call was begun in another process, before a fork: its connection is not ours"


class Timed(Protocol):
    """An attempt, by its beginning."""

    since: float


class CallsInFlight(weakref.WeakValueDictionary[int, "CancelToken"]):
    """The calls of one adapter that are being sent, or whose response has not ended; from any thread."""

    def __init__(self) -> None:
        super().__init__()
        _OF_PROCESS[id(self)] = self

    def all(self) -> list[CancelToken]:
        """Return the calls; ``valuerefs`` copies atomically."""
        return [token for ref in self.valuerefs() if (token := ref()) is not None]

    @staticmethod
    def of_process() -> list[CancelToken]:
        """Return the calls of all adapters, of those too that are gone and left a stream."""
        held = [calls for ref in _OF_PROCESS.valuerefs() if (calls := ref()) is not None]
        return [token for calls in held for token in calls.all()]


# Weak: an adapter, or a call that has outlived it, keeps its own.
_OF_PROCESS: weakref.WeakValueDictionary[int, CallsInFlight] = weakref.WeakValueDictionary()


class CancelToken:
    """One send with its retries and its response: what may end it, and what must be woken then.

    Mutable state: the end, the socket that the call is blocked on and the alarm that it sleeps on,
    guarded by one re-entrant lock, since a signal handler or a ``__del__`` may cancel on the thread
    that holds it. ``pid`` is asked of the system where it is None. What a diagnosis asks takes no
    lock: each is one value, as it is at that moment.
    """

    _id: str | None = None
    # Weak: an attempt refers to its token, and both are to be freed without the collector.
    _attempt: weakref.ref[Timed] | None = None
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
        # The present boot time in seconds: asked for so often that it must not cost a look at all three clocks.
        self.boot: Callable[[], float] = boot if clock is now else lambda: clock().boot
        self._lock = threading.RLock()
        self.pid = os.getpid() if pid is None else pid
        self.end: End | None = None  # what has ended it; not: whether a deadline has passed
        self._sock: Wakeable | None = None
        self._alarm: threading.Lock | None = None
        self.deadline = None if total is None else self.boot() + total  # boot time
        self.limit_name: LimitName = "total"  # what sets the deadline
        self._calls = calls
        self.is_sending = True  # no response has been handed out
        if calls is not None:
            calls[id(self)] = self
        self._scopes: tuple[CancelScope, ...] = ()
        if (scope := current_scope()) is not None:
            self._obey(scope)

    def __repr__(self) -> str:
        return f"<CancelToken {'running' if self.end is None else self.end.name.lower()}>"

    @property
    def is_ended(self) -> bool:
        """Whether it was cancelled or shut down (not: whether a deadline has passed)."""
        return self.end is not None

    @property
    def id(self) -> str:
        """The name of the call in events; made when first asked for."""
        known: str | None = self._id
        if known is None:
            # Atomic: a diagnosis may ask in another thread, or in a signal handler in between.
            known = vars(self).setdefault("_id", uuid.uuid4().hex[:12])
        return known

    # -- what a diagnosis asks --------------------------------------------------------------------

    @property
    def is_of_this_process(self) -> bool:
        """Whether it was not begun before a fork: also where no at-fork hook has run."""
        return self.end is not End.FORKED and self.pid == os.getpid()

    @property
    def attempt(self) -> object:
        """The attempt that runs, or has run last; None where there is none any more."""
        return None if self._attempt is None else self._attempt()

    @property
    def watched(self) -> Wakeable | None:
        """The socket that the call uses now."""
        return self._sock

    # -- what ends it, and what is woken then -----------------------------------------------------

    def begin(self, attempt: Timed) -> None:
        """An attempt of the call begins. Raises as `check`."""
        self._attempt, self.wakes_at = weakref.ref(attempt), None
        if self.since is None:
            self.since = attempt.since
        self.check()

    def cancel(self) -> None:
        """End the call at once, from any thread or signal handler; its reader or sender raises `Cancelled`."""
        self._finish(End.CANCELLED)

    def abort(self) -> None:
        """End the call at once because its adapter was shut down; it raises a ConnectionError."""
        self._finish(End.SHUT_DOWN)

    def check(self) -> None:
        """Raise the error of what has ended the call: `Cancelled`, `DeadlineExceeded` or ConnectionError."""
        if self.end is not None:
            if self.end is End.CANCELLED:
                raise Cancelled
            raise requests.ConnectionError(self.end.value)
        if self.deadline is not None and self.boot() >= self.deadline:
            raise DeadlineExceeded(
                f"the call's total time is up ({_KNOBS[self.limit_name]} sets the limit)"
            )

    def remaining(self) -> float | None:
        """Return the seconds until the deadline, at least 0; None where there is none."""
        return None if self.deadline is None else max(self.deadline - self.boot(), 0.0)

    def clip(self, limit: float | None) -> float | None:
        """Return the timeout of the next blocking operation: ``limit``, or less where the deadline comes first.

        Raises as `check`.
        """
        # A sender knows its process, and a system call at each of its reads would cost 1 % of a short call.
        if not self.is_sending and self.pid != os.getpid():
            self.disown()  # uWSGI runs no at-fork hook
        if self.end is None and self.deadline is None:
            return limit
        self.check()
        remaining = self.remaining()
        if remaining is None:
            return limit
        # A millisecond more: a timeout that fires a hair before the deadline would not look like the deadline.
        remaining += 0.001
        return remaining if limit is None else min(limit, remaining)

    def watch(self, sock: Wakeable | None) -> None:
        """Name the socket to shut down when this call ends (None: there is none now). Raises as `check`."""
        with self._lock:
            self._sock = sock
        self.check()

    def sleep(self, seconds: float) -> None:
        """Wait, less where the deadline comes first; raises as `check` as soon as the call ends."""
        alarm = threading.Lock()
        alarm.acquire()
        with self._lock:
            self._alarm = alarm
        self.wakes_at = until = self.boot() + seconds
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
        self._sock = None
        self.end = self.end or End.FORKED

    def release(self) -> None:
        """Forget the socket, which is about to serve somebody else; leave if the sender is done."""
        with self._lock:
            self._sock = None
        if not self.is_sending:
            self.leave()

    def sent(self) -> None:
        """The sender is done; a response that is still open keeps the call alive."""
        self.is_sending = False
        with self._lock:
            is_open = self._sock is not None
        if not is_open:
            self.leave()

    def leave(self) -> None:
        """The call is over: nothing is left to end."""
        self._alarm = None
        if self._calls is not None:
            self._calls.pop(id(self), None)
        for scope in self._scopes:
            scope._let_go(self)

    def succeed(self, earlier: CancelToken) -> None:
        """Go on in place of an earlier call: under its name, in its scopes, to its deadline, ended if it was."""
        self._id = earlier.id
        self._attempt, self.since = earlier._attempt, earlier.since
        self._end_by(earlier.deadline, earlier.limit_name)
        for scope in earlier._scopes:
            if scope not in self._scopes:
                self._obey(scope)
        self.end = self.end or earlier.end

    def _obey(self, scope: CancelScope) -> None:
        self._scopes += (scope,)
        self._end_by(scope._take_in(self), "scope")
        # After joining, so that a cancel in between is seen either here or by the scope.
        if scope.is_cancelled:
            self.end = self.end or End.CANCELLED

    def _end_by(self, deadline: float | None, name: LimitName) -> None:
        if deadline is not None and (self.deadline is None or deadline < self.deadline):
            self.deadline, self.limit_name = deadline, name

    def _finish(self, end: End) -> None:
        with self._lock:
            self.end = self.end or end
            sock, alarm = self._sock, self._alarm
            if alarm is not None:
                with suppress(RuntimeError):  # released already
                    alarm.release()
            # A forked child shares the parent's connection: to shut it down would end the parent's call.
            if sock is not None and self.pid == os.getpid():
                shut_down(sock)
