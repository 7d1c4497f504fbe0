"""Pools that recycle idle connections, under any kind of pool manager."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import urllib3
import urllib3.exceptions

from resilient_requests.call import Origin, current_attempt
from resilient_requests.transport._connection import RecyclingConnection

if TYPE_CHECKING:
    from resilient_requests.call import Attempt, CancelToken, Instant
    from resilient_requests.transport._generations import PoolState

__all__ = ["RecyclingPool", "recycle"]

# A queue cannot be woken by a cancel: wait for a place in a blocking pool for so many seconds at a
# time.
_NAP = 0.1


class _Derived:
    """The connection class of a pool: the one that its base has at this moment, with ours over it.

    No data descriptor, so that a ``ConnectionCls`` that somebody sets on one pool is used as it is.
    """

    def __get__(self, pool: RecyclingPool | None, owner: type[RecyclingPool]) -> type:
        below: Any = super(RecyclingPool, owner if pool is None else pool)
        return derive(below.ConnectionCls)


class RecyclingPool(urllib3.HTTPConnectionPool):
    """The part that is laid over whatever pool class a manager has.

    ``idle``: the pooled connections, oldest first. Taking one out of it is atomic, and gives it to
    the thread that did.
    """

    ConnectionCls = _Derived()
    state: PoolState  # of a class made by `recycle`
    is_evicted = (
        False  # its manager has forgotten it: what is still in use is closed when it returns
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.origin = Origin(self.scheme, self.host, self.port or 0)
        self.idle: dict[RecyclingConnection, None] = {}
        self.state.add_pool(self)

    def _new_conn(self) -> Any:
        conn = super()._new_conn()
        if isinstance(conn, RecyclingConnection):
            conn.enroll(self.state, self.origin)
        return conn

    def _get_conn(self, timeout: float | None = None) -> Any:
        attempt = current_attempt.get()
        if attempt is None:
            self.state.process.ensure()  # else the adapter has
            conn = super()._get_conn(timeout=timeout)
        else:
            conn = self._take_place(attempt, timeout)
        if not isinstance(conn, RecyclingConnection):
            return conn
        idle_for = None
        if conn.born is not None:
            # An idle connection that is closed where it lies leaves its place in the queue behind.
            conn, idle_for = (
                self._judge(conn, attempt) if conn in self.idle else (self._new_conn(), None)
            )
        if isinstance(conn, RecyclingConnection):
            conn.serve(attempt, idle_for)
        return conn

    def _take_place(self, attempt: Attempt, timeout: float | None) -> Any:
        """Take a connection, or the place of one, from urllib3's queue."""
        attempt.waits_for_place()
        waits = self.block and timeout is None
        try:
            conn = self._await(attempt.token) if waits else super()._get_conn(timeout=timeout)
        except BaseException as error:
            attempt.failed(error)
            raise
        attempt.has_place()
        return conn

    def _await(self, token: CancelToken) -> Any:
        """Wait for a place in a blocking pool, until the call ends."""
        while True:
            left = token.remaining()
            try:
                return super()._get_conn(timeout=_NAP if left is None else min(left, _NAP))
            except urllib3.exceptions.EmptyPoolError:
                if token.is_ended or token.remaining() == 0:
                    raise

    def _judge(
        self, conn: RecyclingConnection, attempt: Attempt | None
    ) -> tuple[Any, float | None]:
        """Return the connection and how long it lay idle; a new one where it must not be used."""
        state, now = self.state, self.state.clock()
        reason = state.reason_to_close(conn, now)
        if reason is None and attempt is not None and attempt.must_dial:
            reason = "a retry dials"
        taken = self.idle.pop(conn, self) is None
        self._sweep(now, attempt)
        if reason is not None or not taken:
            state.recycled(conn, reason or "retired", now, attempt)
            return self._new_conn(), None
        state.count(self.origin, "reused")
        return conn, 0.0 if conn.idle_since is None else conn.idle_since.age(now)

    def _sweep(self, now: Instant, attempt: Attempt | None) -> None:
        """Close the expired ones at the bottom, which a last-in-first-out queue keeps for ever."""
        for conn in list(self.idle):
            reason = self.state.reason_to_close(conn, now)
            if reason is None:
                return
            if self.idle.pop(conn, self) is None:
                self.state.recycled(conn, reason, now, attempt)

    def _put_conn(self, conn: Any) -> None:
        attempt = current_attempt.get()
        if conn is None and attempt is not None and not attempt.may_return_place():
            # urllib3 gives a place back, too, where an exception has ended the wait for one.
            return
        self.state.process.ensure()
        if isinstance(conn, RecyclingConnection):
            if conn.born is not None and conn.generation < self.state.first_generation:
                conn.close()  # the parent's, as its place is
                return
            self._pause(conn, attempt)
        super()._put_conn(conn)
        if getattr(conn, "sock", self) is None:
            self.idle.pop(conn, None)  # the pool was full and has closed it

    def _pause(self, conn: RecyclingConnection, attempt: Attempt | None) -> None:
        """List a connection as idle; close it where it must not be used again."""
        now = self.state.clock()
        reason = conn.pause(now)
        if conn.sock is None:
            return
        # First listed, then judged: a rotation in between finds it in the list, or is found here.
        self.idle[conn] = None
        reason = reason or self.state.reason_to_close(conn, now)
        if reason is None and (self.is_evicted or self.pool is None):
            reason = "pool closed"
        if reason is not None and self.idle.pop(conn, self) is None:
            self.state.recycled(conn, reason, now, attempt)

    def close_idle(self) -> int:
        """Close the idle connections, and return how many; from any thread and signal handler."""
        mine = [conn for conn in list(self.idle) if self.idle.pop(conn, self) is None]
        for conn in mine:
            conn.close()
        return len(mine)

    def evict(self) -> None:
        """Close what is idle, and what is in use when it returns: the manager forgets this pool."""
        self.is_evicted = True
        self.close_idle()

    def after_fork(self) -> None:
        """In the child: close descriptors of idle connections; the parent's connections live on."""
        idle, self.idle = list(self.idle), {}
        if self.pool is not None:
            # In place, since a finalizer of urllib3 holds it, and its mutex may be held by a thread
            # that is not here.
            size = self.pool.maxsize
            type(self.pool).__init__(self.pool, size)
            for _ in range(size):
                self.pool.put(None)
        for conn in idle:
            conn.close()


def recycle(manager: urllib3.PoolManager, state: PoolState, num_pools: int) -> None:
    """Have a pool manager of any kind make pools that recycle; harmless when repeated."""
    classes = manager.pool_classes_by_scheme
    if any(issubclass(each, RecyclingPool) for each in classes.values()):
        return
    # A new dict: the attribute is urllib3's module-global one.
    manager.pool_classes_by_scheme = {
        scheme: type(
            base.__name__, (RecyclingPool, base), {"state": state, "__module__": base.__module__}
        )
        for scheme, base in classes.items()
    }
    # urllib3 only forgets a pool here, and it lives on, with all that is idle in it, while any
    # response does.
    manager.pools.dispose_func = _evict
    state.add_manager(manager, num_pools)


def _evict(pool: object) -> None:
    if isinstance(pool, RecyclingPool):
        pool.evict()


# Weak on both sides: vcrpy makes a class for each cassette, and a class that is derived refers to
# its base.
_DERIVED: weakref.WeakKeyDictionary[type, weakref.ref[type]] = weakref.WeakKeyDictionary()


def derive(base: type) -> type:
    """Return ``base`` with `RecyclingConnection` over it; ``base`` itself where it is no urllib3 connection.

    From whatever class the pool has now, since vcrpy replaces it and SOCKS has its own. The same one
    as long as it, or a connection of it, is in use.
    """
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
    return type(base.__name__, (RecyclingConnection, base), {"__module__": base.__module__})
