"""Pools that recycle idle connections, under each kind of pool manager."""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING, Any, cast

import urllib3
import urllib3.exceptions

from resilient_requests.call import _attempt
from resilient_requests.transport._connection import RecyclingConnection, derive
from resilient_requests.transport._register import Place, Register

if TYPE_CHECKING:
    from urllib3.connectionpool import HTTPConnectionPool
    from urllib3.poolmanager import PoolKey

    from resilient_requests.call._attempt import Attempt
    from resilient_requests.call._cancel import Call, Members
    from resilient_requests.call._clock import Instant

__all__ = [
    "RecyclingPool",
    "RecyclingPoolManager",
    "RecyclingProxyManager",
    "adopt",
    "recycling_manager",
]

# A queue cannot be woken by a cancel: wait for a place in a blocking pool for so many seconds at a time.
_NAP = 0.1


class Loan:
    """That a connection of a blocking pool is in use; whoever takes it out of ``loans`` owns the connection's place."""

    __slots__ = ("call", "conn")

    def __init__(self, conn: RecyclingConnection, call: Call) -> None:
        # Weak: who drops a stream closes its socket at most, since no lock may be taken there, and the queue has one.
        self.conn, self.call = weakref.ref(conn), weakref.ref(call)

    def is_lost(self, in_flight: Members) -> bool:
        """Whether nobody is left who uses the connection: neither one that sends, nor a response that can be read."""
        conn, call = self.conn(), self.call()
        if conn is None:
            return call is None or not call.is_sending
        # Without a socket it may still be read: http.client closes at once a connection that will not be used again.
        return conn.sock is None and (call is None or in_flight.get(id(call)) is not call)


class _Derived:
    """The connection class of a pool: the one that its base has at this moment, with ours over it.

    No data descriptor, so that whoever sets ``ConnectionCls`` on one pool gets what was set.
    """

    def __get__(self, pool: RecyclingPool | None, owner: type[RecyclingPool]) -> type:
        return derive(super(RecyclingPool, owner if pool is None else pool).ConnectionCls)  # type: ignore[misc]


class RecyclingPool(urllib3.HTTPConnectionPool):
    """The part that is laid over whatever pool class a manager has."""

    ConnectionCls = _Derived()
    register: Register
    place: Place
    is_evicted = (
        False  # its manager has forgotten it: what is still in use is closed when it returns
    )

    def enroll(self, register: Register) -> None:
        """Begin to recycle; called once, before the first connection is asked for."""
        self.register = register
        self.place = Place(self.scheme, self.host, self.port or 0)
        # Oldest first, since a connection goes to the end when it is put; an item is owned by who takes it out.
        self.idle: dict[RecyclingConnection, None] = {}
        self.loans: dict[
            Loan, None
        ] = {}  # of a pool that blocks; an item is owned by who takes it out
        register.add_pool(self)

    def keep(self, manager: _RecyclingManager, key: PoolKey) -> None:
        """Know the manager that has this pool under ``key``."""
        # Weak: pools and their manager are freed without the collector.
        self._manager, self._key, self._settings = (
            weakref.ref(manager),
            key,
            manager.connection_pool_kw.copy(),
        )

    def touch(self, current: object) -> bool:
        """Have its manager forget other pools first; return whether that would give this one again.

        ``current``: the manager that must be it; None: any. Some set host names and fingerprints to check on it.
        """
        manager = self._manager()
        if manager is None or self.is_evicted or manager.connection_pool_kw != self._settings:
            return False
        if current is not None and current is not manager:
            return False
        if (
            manager.newest is self._key
        ):  # to move it there again would take as long as all else in a look-up
            return True
        manager.newest = self._key
        return manager.pools.get(self._key) is self

    def _new_conn(self) -> Any:
        conn = super()._new_conn()
        if isinstance(conn, RecyclingConnection):
            conn.keeper, conn.place = self.register, self.place
        return conn

    def _get_conn(self, timeout: float | None = None) -> Any:
        attempt = _attempt.current.get()
        if attempt is None:
            self.register.ensure_process()  # else the adapter has
        conn = self._taken(attempt, timeout)
        if self.block and attempt is not None and isinstance(conn, RecyclingConnection):
            conn.loan = loan = Loan(conn, attempt.call)
            self.loans[loan] = None
        return conn

    def _taken(self, attempt: Attempt | None, timeout: float | None) -> Any:
        if attempt is not None and self.block and timeout is None:
            conn = self._awaited(attempt.call)
        else:
            conn = super()._get_conn(timeout=timeout)
        if not isinstance(conn, RecyclingConnection):
            return conn
        if attempt is not None:
            attempt.place = self.place
        if conn.born is None:
            return conn
        if conn not in self.idle:
            return (
                self._new_conn()
            )  # closed where it lay, its place in the queue was all that was left
        return self._judged(conn, attempt)

    def _awaited(self, call: Call) -> Any:
        """Wait for a place in a blocking pool, until the call ends.

        EmptyPoolError leaves then, of all errors the one after which ``urlopen`` does not give a place back that it
        never had; whoever looks at the call finds what has ended it.
        """
        while True:
            left = call.remaining()
            try:
                return super()._get_conn(timeout=_NAP if left is None else min(left, _NAP))
            except urllib3.exceptions.EmptyPoolError:
                if call.is_ended or call.remaining() == 0:
                    raise
                if self._takes_lost_place():
                    return self._new_conn()

    def _takes_lost_place(self) -> bool:
        in_flight = self.register.in_flight
        return any(
            each.is_lost(in_flight) and self.loans.pop(each, self) is None
            for each in list(self.loans)
        )

    def _judged(self, conn: RecyclingConnection, attempt: Attempt | None) -> Any:
        register, now = self.register, self.register.clock()
        reason = register.reason_to_close(conn, now)
        if reason is None and attempt is not None and attempt.fresh:
            reason = "a retry dials"
        taken = self.idle.pop(conn, self) is None
        self._sweep(now)
        if reason is not None or not taken:
            register.recycled(conn, reason or "retired", now)
            return self._new_conn()
        register.reused(conn)
        if attempt is not None and conn.idle_since is not None:
            attempt.reused, attempt.idle_for = True, conn.idle_since.age(now)
            attempt.generation = conn.generation
        return conn

    def _sweep(self, now: Instant) -> None:
        """Close what has expired at the bottom: the queue is last in, first out, and would keep it open for ever."""
        for conn in list(self.idle):
            reason = self.register.reason_to_close(conn, now)
            if reason is None:
                return
            if self.idle.pop(conn, self) is None:
                self.register.recycled(conn, reason, now)

    def _put_conn(self, conn: Any) -> None:
        is_ours = isinstance(conn, RecyclingConnection)
        # A process id is a system call: whoever sends has just asked for it.
        if (
            is_ours
            and conn.born is not None
            and _attempt.current.get() is None
            and conn.pid != os.getpid()
        ):
            # The parent's, as its place is; and where no at-fork hook ran, the queue may be locked for ever.
            conn.close()
            return
        if self.block and not self._ends_loan(conn):
            conn.close()
            return
        if is_ours and conn.sock is not None:
            register = self.register
            now = conn.idle_since = register.clock()
            # First listed, then judged: a rotation in between finds it in the list, or is found here.
            self.idle[conn] = None
            reason = conn.take_reason_not_to_pool() or register.reason_to_close(conn, now)
            if reason is None and (self.is_evicted or self.pool is None):
                reason = "pool closed"
            if reason is not None and self.idle.pop(conn, self) is None:
                register.recycled(conn, reason, now)
        super()._put_conn(conn)
        if getattr(conn, "sock", self) is None:
            self.idle.pop(conn, None)  # the pool was full and has closed it

    def _ends_loan(self, conn: Any) -> bool:
        """Return whether a place comes back with what is put; another call may have found it lost."""
        loan: Loan | None
        if isinstance(conn, RecyclingConnection):
            loan, conn.loan = conn.loan, None
        else:  # urllib3 has dropped one that failed
            attempt = _attempt.current.get()
            call = self if attempt is None else attempt.call
            loan = next((each for each in list(self.loans) if each.call() is call), None)
        return loan is None or self.loans.pop(loan, self) is None

    def close_idle(self) -> int:
        """Close the connections that lie idle, and return how many; safe from any thread and in signal handlers."""
        mine = [conn for conn in list(self.idle) if self.idle.pop(conn, self) is None]
        for conn in mine:
            conn.close()
        return len(mine)

    def evict(self) -> None:
        """Close what lies idle, and what is in use when it returns: the manager has no room, or was cleared."""
        self.is_evicted = True
        self.close_idle()

    def after_fork(self) -> None:
        """In the child: close the descriptors of idle connections; the parent's TCP connections live on."""
        idle, self.idle, self.loans = list(self.idle), {}, {}
        if self.pool is not None:
            # In place, since a finalizer of urllib3 holds it, and its mutex may be held by a thread that is not here.
            size = self.pool.maxsize
            type(self.pool).__init__(self.pool, size)
            for _ in range(size):
                self.pool.put(None)
        for conn in idle:
            conn.close()


def _evict(pool: object) -> None:
    if isinstance(pool, RecyclingPool):
        pool.evict()


class _RecyclingManager(urllib3.PoolManager):
    """The part that is laid over each kind of pool manager."""

    register: Register
    newest: PoolKey | None = None  # the key of the pool used last

    def enroll(self, register: Register, num_pools: int) -> None:
        """Begin to make recycling pools; called once, before the first pool is asked for."""
        self.register, self.num_pools = register, num_pools
        # A new dict: the attribute is urllib3's module-global one.
        self.pool_classes_by_scheme = {
            scheme: type(base.__name__, (RecyclingPool, base), {"__module__": base.__module__})
            for scheme, base in self.pool_classes_by_scheme.items()
        }
        # urllib3 only forgets a pool here, and it lives on, with all that is idle in it, while any response does.
        self.pools.dispose_func = _evict
        register.add_manager(self)

    def _new_pool(
        self, scheme: str, host: str, port: int, request_context: dict[str, Any] | None = None
    ) -> HTTPConnectionPool:
        pool = super()._new_pool(scheme, host, port, request_context=request_context)
        if isinstance(pool, RecyclingPool):
            pool.enroll(self.register)
        return pool

    def connection_from_pool_key(
        self, pool_key: PoolKey, request_context: dict[str, Any]
    ) -> HTTPConnectionPool:
        pool = super().connection_from_pool_key(pool_key, request_context)
        self.newest = pool_key
        if isinstance(pool, RecyclingPool):
            pool.keep(self, pool_key)
        return pool


class RecyclingPoolManager(_RecyclingManager, urllib3.PoolManager):
    """Direct connections."""


class RecyclingProxyManager(_RecyclingManager, urllib3.ProxyManager):
    """Connections through an HTTP proxy, forwarding and CONNECT."""


def recycling_manager(base: type) -> type:
    """Return a kind of pool manager with recycling over it, such as urllib3's for SOCKS, which needs an extra."""
    return type(base.__name__, (_RecyclingManager, base), {"__module__": base.__module__})


def adopt(
    manager: urllib3.PoolManager, register: Register, num_pools: int, options: dict[str, Any]
) -> None:
    """Lay recycling over a pool manager that somebody else has made, with these options where it has none."""
    if not isinstance(manager, _RecyclingManager):
        manager.connection_pool_kw = {**options, **manager.connection_pool_kw}
        manager.__class__ = recycling_manager(type(manager))
        cast("_RecyclingManager", manager).enroll(register, num_pools)
