"""Pools that recycle idle connections, under pool managers of any kind."""

from __future__ import annotations

import weakref
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import urllib3
import urllib3.exceptions

from resilient_requests.call import AdapterRetry, Origin, Phase, current_attempt
from resilient_requests.transport._connection import RecyclingConnection

if TYPE_CHECKING:
    from resilient_requests.call import Attempt, CancelToken, Instant
    from resilient_requests.transport._generations import PoolState

__all__ = ["RecyclingPool", "recycle"]

# Seconds. A cancel cannot wake a queue, so a wait for a place in a blocking pool is cut into naps.
_NAP = 0.1


class _Derived:
    """The connection class of a pool: its base's class at this moment, with the mixin over it.

    It defines no ``__set__``, so a ``ConnectionCls`` that is set on one pool wins.
    """

    def __get__(self, pool: RecyclingPool | None, owner: type[RecyclingPool]) -> Any:
        below: Any = super(RecyclingPool, owner if pool is None else pool)
        return derive(below.ConnectionCls)


class RecyclingPool(urllib3.HTTPConnectionPool):
    """The mixin over the pool class that a manager has.

    ``idle`` holds the pooled connections, oldest first. Removing an entry is atomic, and the thread
    that removed it owns the connection.
    """

    ConnectionCls = _Derived()
    state: PoolState  # set on the class by `recycle`
    is_evicted = False  # True: the manager forgot this pool, and connections in use close on return

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.origin = Origin(self.scheme, self.host, self.port or 0)
        self.idle: dict[RecyclingConnection, None] = {}
        # Closed connections of bodies that were dropped. A finalizer must not use urllib3's queue,
        # whose lock this thread may hold; adding here is atomic.
        self.owed: deque[Any] = deque()
        self.state.add_pool(self)

    def urlopen(self, *args: Any, **kwargs: Any) -> Any:
        """Send a request; only the call's own one belongs to its attempt."""
        attempt, retries = current_attempt.get(), kwargs.get("retries")
        if attempt is not None:
            if not attempt.enters_pool(kwargs.get("headers")):
                with current_attempt(None):
                    return super().urlopen(*args, **kwargs)
        # Not while a call runs: its request may only have been handed to another thread.
        elif isinstance(retries, AdapterRetry) and not self.state.in_flight.all():
            kwargs["retries"] = retries.plain or retries
        return super().urlopen(*args, **kwargs)

    def _new_conn(self) -> Any:
        conn = super()._new_conn()
        if isinstance(conn, RecyclingConnection):
            conn.enroll(self.state, self.origin)
        return conn

    def _get_conn(self, timeout: float | None = None) -> Any:
        if self.owed:
            self._collect_places()
        attempt = current_attempt.get()
        if attempt is not None and attempt.phase is not Phase.START and not attempt.begin_again():
            attempt = None  # not observed
        if attempt is None:
            self.state.process.ensure()  # for an attempt, its adapter has done so
            conn = super()._get_conn(timeout=timeout)
        else:
            conn = self._take_place(attempt, timeout)
        # Other packages, and tests, pool objects of their own classes.
        if not isinstance(conn, RecyclingConnection):
            return conn
        idle_for = None
        if conn.born is not None:
            # Closing an idle connection leaves its place in the queue, under the closed object.
            conn, idle_for = (
                self._judge(conn, attempt) if conn in self.idle else (self._new_conn(), None)
            )
        if isinstance(conn, RecyclingConnection):
            conn.serve(attempt, idle_for)
        return conn

    def _take_place(self, attempt: Attempt, timeout: float | None) -> Any:
        """Take a connection, or an empty place, from urllib3's queue."""
        attempt.waits_for_place()
        waits = self.block and timeout is None
        try:
            conn = self._await(attempt.token) if waits else super()._get_conn(timeout=timeout)
        except BaseException as error:
            attempt.failed(error)
            raise
        attempt.placed()
        return conn

    def _collect_places(self) -> None:
        while self.owed:
            with suppress(IndexError):  # another thread was faster
                self._put_conn(self.owed.popleft())

    def _await(self, token: CancelToken) -> Any:
        """Wait for a place in a blocking pool until there is one or the call ends."""
        while True:
            left = token.remaining()
            try:
                return super()._get_conn(timeout=_NAP if left is None else min(left, _NAP))
            except urllib3.exceptions.EmptyPoolError:
                if token.end is not None or token.remaining() == 0:
                    raise
                self._collect_places()

    def _judge(
        self, conn: RecyclingConnection, attempt: Attempt | None
    ) -> tuple[Any, float | None]:
        """Return the connection and its idle seconds; a new one and None if it must not be used."""
        state, now = self.state, self.state.clock()
        reason = state.reason_to_close(conn, now)
        if reason is None and attempt is not None and attempt.must_dial:
            # The queue is last in, first out: the next connection may be as dead as the one that
            # failed.
            reason = "a retry dials"
        taken = self.idle.pop(conn, self) is None
        if self.idle:
            self._sweep(now, attempt)
        if reason is not None or not taken:
            state.recycled(conn, reason or "retired", now, attempt)
            return self._new_conn(), None
        state.count(self.origin, "reused")
        return conn, 0.0 if conn.idle_since is None else conn.idle_since.age(now)

    def _sweep(self, now: Instant, attempt: Attempt | None) -> None:
        """Close expired connections at the bottom: a last-in-first-out queue never reaches them."""
        for conn in list(self.idle):
            reason = self.state.reason_to_close(conn, now)
            if reason is None:
                return
            if self.idle.pop(conn, self) is None:
                self.state.recycled(conn, reason, now, attempt)

    def _put_conn(self, conn: Any) -> None:
        attempt = current_attempt.get()
        if conn is None and attempt is not None and not attempt.may_return_place():
            # urllib3 gives a place back even if an exception ended the wait for one.
            return
        self.state.process.ensure()
        if isinstance(conn, RecyclingConnection):
            if conn.born is not None and conn.generation < self.state.first_generation:
                conn.close()  # it is the parent's, and so is its place
                return
            self._pause(conn, attempt)
        super()._put_conn(conn)
        if getattr(conn, "sock", self) is None:
            self.idle.pop(conn, None)  # the pool was full and has closed it

    def _pause(self, conn: RecyclingConnection, attempt: Attempt | None) -> None:
        """List a connection as idle, or close it if it must not be used again."""
        now = self.state.clock()
        reason = conn.pause(now)
        if conn.sock is None:
            return
        # Listed first, judged second: a rotation in between finds it listed, or is found here.
        self.idle[conn] = None
        reason = reason or self.state.reason_to_close(conn, now)
        if reason is None and (self.is_evicted or self.pool is None):
            reason = "pool closed"
        if reason is not None and self.idle.pop(conn, self) is None:
            self.state.recycled(conn, reason, now, attempt)

    def close_idle(self) -> int:
        """Close the idle connections and return their number; from any thread or signal handler."""
        mine = [conn for conn in list(self.idle) if self.idle.pop(conn, self) is None]
        for conn in mine:
            conn.close()
        return len(mine)

    def evict(self) -> None:
        """Close idle connections now and those in use on return: the manager forgets this pool."""
        self.is_evicted = True
        self.close_idle()

    def after_fork(self) -> None:
        """In the child, close the descriptors of idle connections; the parent's live on."""
        idle, self.idle = list(self.idle), {}
        if self.pool is not None:
            # The queue is emptied in place, since urllib3's finalizer refers to it. Its mutex is
            # made anew: a thread of the parent may have held it at the fork.
            size = self.pool.maxsize
            type(self.pool).__init__(self.pool, size)
            # As urllib3's constructor does: an empty place per connection.
            for _ in range(size):
                self.pool.put(None)
        for conn in idle:
            conn.close()


def recycle(manager: urllib3.PoolManager, state: PoolState, num_pools: int) -> None:
    """Make a pool manager of any kind create recycling pools; harmless if repeated."""
    classes = manager.pool_classes_by_scheme
    if any(_is_pool(each, RecyclingPool) for each in classes.values()):
        return
    # A new dict, because the attribute is urllib3's module-global one.
    manager.pool_classes_by_scheme = {
        # Under the base's name, which messages and reprs show.
        scheme: type(
            base.__name__, (RecyclingPool, base), {"state": state, "__module__": base.__module__}
        )
        if _is_pool(base, urllib3.HTTPConnectionPool)
        else base  # another package's factory, or a mock
        for scheme, base in classes.items()
    }
    # urllib3 >= 2 only forgets a pool here. The pool lives on, with its idle connections, as long
    # as one of its responses does.
    manager.pools.dispose_func = _evict
    state.add_manager(manager, num_pools)


def _is_pool(kind: object, base: type) -> bool:
    return isinstance(kind, type) and issubclass(kind, base)


def _evict(pool: object) -> None:
    if isinstance(pool, RecyclingPool):
        pool.evict()


# Weak on both sides: vcrpy makes a class for each cassette, and a derived class refers to its base.
_DERIVED: weakref.WeakKeyDictionary[type, weakref.ref[type]] = weakref.WeakKeyDictionary()


def derive(base: Any) -> Any:
    """Return ``base`` under `RecyclingConnection`, or ``base`` itself if it is no connection.

    The base is the class that the pool has now: vcrpy replaces it, and SOCKS has its own. The
    derived class is the same as long as it, or a connection of it, is in use.
    """
    if not isinstance(base, type):
        return base  # another package's factory, or a mock
    known = _DERIVED.get(base)
    derived = None if known is None else known()
    if derived is None:
        derived = _derive(base)
        _DERIVED[base] = weakref.ref(derived)
    return derived


def _derive(base: type) -> type:
    if not issubclass(base, urllib3.connection.HTTPConnection) or issubclass(
        base, RecyclingConnection
    ):
        return base
    # Under the base's name, which messages and reprs show.
    return type(base.__name__, (RecyclingConnection, base), {"__module__": base.__module__})
