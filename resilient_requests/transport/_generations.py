"""The state of one adapter's connections: their generation, reuse, and the calls in flight."""

from __future__ import annotations

import math
import threading
import weakref
from typing import TYPE_CHECKING, Any, Protocol

from resilient_requests.call import (
    CallsInFlight,
    ConnectionOpened,
    ConnectionRecycled,
    Observers,
    PoolRotated,
    Process,
    now,
)
from resilient_requests.transport._keepalive import KeepAlivePolicy, window_of
from resilient_requests.transport._origin import ConnectionLease, OriginState
from resilient_requests.transport._origins import Origins
from resilient_requests.transport._stats import AdapterStats, Rotation
from resilient_requests.transport.dial import SHARED_CONTEXTS, Remembered, family_name

if TYPE_CHECKING:
    from resilient_requests.call import Attempt, Clock, Instant, Origin
    from resilient_requests.transport._connection import RecyclingConnection
    from resilient_requests.transport.dial import AddressInfo

__all__ = ["PoolState"]

# Seconds. Callers notice the same change of network within moments of each other.
_COALESCE = 1.0


class Pool(Protocol):
    """The part of a pool that its state uses."""

    origin: Origin
    idle: dict[RecyclingConnection, None]

    def close_idle(self) -> int:
        """Close the idle connections and return their number."""

    def after_fork(self) -> None:
        """In the child, let go of the parent's connections."""


class PoolState:
    """The state of all pools of one adapter, in one process.

    Mutable state: the generation, the origins, and whether the adapter was shut down, guarded by
    one lock. The lock is re-entrant, because ``rotate``, ``close`` and ``shutdown`` may run in a
    signal handler on the thread that holds it. A single value is read without the lock. Each pool's
    ``idle`` dict needs none: removing an entry is atomic, and the thread that removed it owns the
    connection.
    """

    def __init__(
        self,
        policy: KeepAlivePolicy,
        observers: Observers,
        clock: Clock = now,
    ) -> None:
        self.policy = policy
        self.clock = clock
        self.tls = SHARED_CONTEXTS
        self.generation = 0
        self.is_shut_down = False
        self._observers = observers
        self.process = Process()
        self.process.on_fork(self._after_fork)
        # Weak: urllib3's finalizer of a pool refers to its queue for ever, and with that to the
        # pool's connections and to this state.
        self._managers: list[tuple[weakref.ref[Any], int]] = []
        self._rotated_at: float | None = None
        self._forget()

    def _forget(self) -> None:
        """Forget all pools, and make the lock anew.

        In a forked child, a thread of the parent may hold the old lock for ever.
        """
        self._lock = threading.RLock()
        self._floor = self.first_generation = self.generation
        self._origins = Origins(self.policy.expiry, self.generation)
        self._pools: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
        self.in_flight = CallsInFlight()

    def _after_fork(self) -> None:
        """In the child, forget every connection without shutting it down: the parent uses it."""
        pools = self.pools()
        for call in self.in_flight.all():
            call.disown()
        self.generation += 1  # retires connections that the parent has in flight
        self._forget()
        for ref, num_pools in self._managers:
            if (manager := ref()) is not None:
                # A new container, since a thread of the parent may hold the lock of the old one.
                manager.pools = type(manager.pools)(num_pools, manager.pools.dispose_func)
        for pool in pools:
            pool.after_fork()

    def add_manager(self, manager: Any, num_pools: int) -> None:
        """Know a manager of ``num_pools`` pools, so that a forked child can empty it."""
        self._managers.append((weakref.ref(manager), num_pools))

    def add_pool(self, pool: Pool) -> None:
        """Know a new pool."""
        self._pools[id(pool)] = pool
        with self._lock:
            self._origins.add_pool(pool.origin, (each.origin for each in self.pools()))

    def pools(self) -> list[Pool]:
        """Return all living pools, with those that their manager has forgotten."""
        return [pool for ref in self._pools.valuerefs() if (pool := ref()) is not None]

    def idle(self) -> int:
        """Return the number of pooled connections."""
        return sum(len(pool.idle) for pool in self.pools())

    def count(self, origin: Origin, name: str) -> None:
        """Count one more of ``name`` for the statistics."""
        with self._lock:
            self._origins.of(origin).count(name)

    # -- called by connections --------------------------------------------------------------------

    def lease(self, origin: Origin, generation: int) -> ConnectionLease:
        """Return the lease of a connection on its origin and generation."""
        return ConnectionLease(self, origin, generation)

    def first_address(self, conn: RecyclingConnection) -> AddressInfo | None:
        """Return the address that the last dial of the origin reached; None if there is none."""
        known = self._origins.of(conn.origin).remembered(self._floor)
        return None if known is None else known.address

    def opened(self, conn: RecyclingConnection, attempt: Attempt) -> None:
        """A connection was dialled."""
        reached = conn.reached
        with self._lock:
            origin = self._origins.of(conn.origin)
            origin.count("opened")
            if reached is not None:
                origin.remember(Remembered(reached[0], conn.generation))
        if self._observers.wants(ConnectionOpened) and conn.born is not None:
            elapsed = conn.born.age(self.clock())
            version = getattr(conn.sock, "version", None)
            # If other code dialled, the end of its TCP connect is unknown: all counts as
            # connecting.
            connect = elapsed if conn.dialled is None else min(conn.born.age(conn.dialled), elapsed)
            self._observers.tell(
                ConnectionOpened(
                    call_id=attempt.token.id,
                    origin=attempt.trace.origin,
                    attempt=attempt.number,
                    elapsed=elapsed,
                    connect=connect,
                    handshake=elapsed - connect,
                    tls=None if version is None else version(),
                    family=None if reached is None else family_name(reached[0][0]),
                    tries=None if reached is None else reached[1],
                )
            )

    # -- called by pools --------------------------------------------------------------------------

    def reason_to_close(self, conn: RecyclingConnection, now: Instant) -> str | None:
        """Return the reason why an idle connection must not be used again; None if it may be."""
        if conn.sock is None:
            # urllib3 closes a readable connection at checkout.
            return "closed by the peer, or unread bytes"
        if self.is_shut_down:
            return "shut down"
        origin = self._origins.of(conn.origin)
        if conn.generation < self._floor or conn.generation < origin.floor:
            return "retired"
        since = conn.idle_since
        # ``since is now`` if the connection is about to be pooled.
        idle_for = 0.0 if since is now else since.age(now) if since is not None else math.inf
        if idle_for >= self._window(origin, conn.hint, now.boot):
            return "idle window"
        max_age = self.policy.max_age
        if max_age is not None and conn.born is not None and conn.born.age(now) >= max_age:
            return "max_age"
        return None

    def _window(self, origin: OriginState, hint: float | None, boot: float) -> float:
        policy = self.policy
        window = policy.expiry if hint is None else window_of(policy, hint)
        return min(window, origin.window.limit(boot)) if policy.adaptive else window

    def recycled(
        self, conn: RecyclingConnection, reason: str, now: Instant, attempt: Attempt | None
    ) -> None:
        """Close a connection instead of using it, and tell the observers."""
        conn.close()
        self.count(conn.origin, "recycled")
        if self._observers.wants(ConnectionRecycled):
            self._observers.tell(
                ConnectionRecycled(
                    call_id=attempt.token.id if attempt else None,
                    origin=attempt.trace.origin if attempt else str(conn.origin),
                    reason=reason,
                    idle_for=conn.idle_since.age(now) if conn.idle_since else None,
                )
            )

    # -- lessons of calls -------------------------------------------------------------------------

    def good(self, origin: Origin, idle_for: float) -> None:
        """A connection reused after ``idle_for`` seconds brought a response."""
        with self._lock:
            self._origins.of(origin).good(idle_for)

    def stale(self, origin: Origin, idle_for: float) -> None:
        """A connection reused after ``idle_for`` seconds was dead."""
        with self._lock:
            self._origins.of(origin).stale(idle_for, self.clock().boot)

    def retire(
        self, origin: Origin, generation: int, reason: str, call_id: str | None = None
    ) -> bool:
        """Retire the connections of one origin unless that was done after ``generation``."""
        self.process.ensure()  # the first act of a forked child may be to end a parent's stream
        with self._lock:
            known = self._origins.of(origin)
            if generation < max(known.floor, self._floor):
                return False
            self.generation += 1
            current = self.generation
            known.retire(current)
        self._tell_rotation(str(origin), current, reason, call_id, self._close_idle(origin))
        return True

    # -- called by the adapter --------------------------------------------------------------------

    def stats(self) -> AdapterStats:
        """Return the figures of the adapter and of each origin."""
        boot = self.clock().boot
        with self._lock:
            origins = {
                name: each.stats(self._limit(each, boot), self._floor)
                for name, each in self._origins.named()
            }
        return AdapterStats(
            generation=self.generation,
            in_flight=len(self.in_flight.all()),
            idle=self.idle(),
            origins=origins,
        )

    def _limit(self, origin: OriginState, boot: float) -> float:
        return origin.window.limit(boot) if self.policy.adaptive else self.policy.expiry

    def rotate(self, seen: int | None) -> Rotation:
        """Retire all connections; see ``ResilientAdapter.rotate``."""
        with self._lock:
            outcome = self._swap(seen)
            current = self.generation
        if outcome is Rotation.ROTATED:
            self.tls.expire()
            self._tell_rotation("*", current, "rotate()", None, self._close_idle())
        return outcome

    def _swap(self, seen: int | None) -> Rotation:
        boot = self.clock().boot
        if self.is_shut_down:
            return Rotation.CLOSED
        # Against the floor of all origins: a loss at one origin is no sign of a changed network.
        if seen is not None and seen < self._floor:
            return Rotation.ALREADY_ROTATED
        rotated = self._rotated_at
        if seen is None and rotated is not None and 0 <= boot - rotated < _COALESCE:
            return Rotation.COALESCED
        self._rotated_at = boot
        self._retire_all()
        return Rotation.ROTATED

    def _retire_all(self) -> None:
        self.generation += 1
        self._floor = self.generation
        self._origins.relearn()

    def close(self) -> None:
        """Close all idle connections now, and those in flight when they return.

        The adapter can be used again.
        """
        with self._lock:
            self._retire_all()
        self._close_idle()

    def shut_down(self) -> None:
        """Pool nothing from here on."""
        self.is_shut_down = True

    def _close_idle(self, origin: Origin | None = None) -> int:
        return sum(
            pool.close_idle() for pool in self.pools() if origin is None or pool.origin == origin
        )

    def _tell_rotation(
        self, origin: str, generation: int, reason: str, call_id: str | None, closed: int
    ) -> None:
        self._observers.tell(
            PoolRotated(
                call_id=call_id,
                origin=origin,
                generation=generation,
                reason=reason,
                closed=closed,
            )
        )
