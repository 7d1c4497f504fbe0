"""The connections of one adapter: which may be reused, which generation they are, which calls are in flight."""

from __future__ import annotations

import collections
import enum
import math
import os
import threading
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from resilient_requests.call import _attempt, _clock
from resilient_requests.call._events import (
    ConnectionOpened,
    ConnectionRecycled,
    Emitter,
    PoolRotated,
)
from resilient_requests.transport import _stats
from resilient_requests.transport._addresses import Remembered
from resilient_requests.transport._keepalive import AdaptiveWindow, KeepAlivePolicy
from resilient_requests.transport._stats import AdapterStats, OriginStats
from resilient_requests.transport._tls import TLSContexts
from resilient_requests.transport._tries import family_name

if TYPE_CHECKING:
    from collections.abc import Hashable

    from resilient_requests.call._attempt import Attempt
    from resilient_requests.call._cancel import Call, Members
    from resilient_requests.call._clock import Clock
    from resilient_requests.transport._addresses import AddressInfo
    from resilient_requests.transport._connection import RecyclingConnection

__all__ = ["Place", "Register", "Rotation"]

# Callers that notice the same change of network do so within moments of each other.
_COALESCE = 1.0
_MOST_AGES = 256
# Of those without a pool: who visits many hosts once must not remember them all.
_MOST_ORIGINS = 512


class Rotation(enum.Enum):
    """What a call of ``ResilientAdapter.rotate()`` did."""

    ROTATED = "rotated"
    """All pooled connections were retired."""
    ALREADY_ROTATED = "already rotated"
    """Nothing: all connections were retired since the generation that the caller had seen."""
    COALESCED = "coalesced"
    """Nothing: another call had retired all within the last second."""
    CLOSED = "closed"
    """Nothing: the adapter was shut down."""


class Place(NamedTuple):
    """Where the connections of a pool go: what a transport failure retires at once."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


class Pool(Protocol):
    """What the register needs from a pool."""

    place: Place
    idle: dict[RecyclingConnection, None]

    def close_idle(self) -> int: ...
    def after_fork(self) -> None: ...


class _Origin:
    """What is known of one place: the generation that its connections must have, and what idleness does to them."""

    __slots__ = (
        "ages",
        "floor",
        "opened",
        "recycled",
        "remembered",
        "retries",
        "reused",
        "stale",
        "window",
    )

    def __init__(self, expiry: float, floor: int = 0) -> None:
        self.floor = floor
        self.window = AdaptiveWindow(expiry)
        self.opened = self.reused = self.recycled = self.stale = self.retries = 0
        # Idle ages of the connections reused last, and whether they were dead.
        self.ages: collections.deque[tuple[float, bool]] = collections.deque(maxlen=_MOST_AGES)
        self.remembered: Remembered | None = None


_COUNTS = ("opened", "reused", "recycled", "stale", "retries")


class Register:
    """All connections of one adapter: which may be reused, which generation they are, which calls are in flight.

    Mutable state: generation, floors, origins and counters, guarded by one re-entrant lock, because ``rotate``,
    ``close`` and ``shutdown`` may run in a signal handler on the thread that holds it; a single value is read
    without it. Each pool's ``idle`` dict needs none: taking an entry out of it is atomic, and whoever takes it owns
    the connection. A second lock, held nowhere else, lets one thread of a forked child forget the parent's.
    """

    def __init__(
        self, policy: KeepAlivePolicy, emitter: Emitter, clock: Clock = _clock.now
    ) -> None:
        self.policy = policy
        self.clock = clock
        self.tls = TLSContexts()
        self.generation = 0
        self.is_shut_down = False
        self._emitter = emitter
        # Weak: urllib3's finalizer of a pool holds its queue, and so its connections and their register, for ever.
        self._managers: list[weakref.ref[Any]] = []
        self._rotated_at: float | None = None
        self._forked = threading.RLock()
        self._pid = os.getpid()
        self._forget()

    def _forget(self) -> None:
        """Start with nothing, as at first and in a forked child: locks may be held by threads that are not here."""
        self._lock = threading.RLock()
        self._floor = self._lost_floor = self.generation
        self._origins: dict[Hashable, _Origin] = {}  # in the order in which their pools were made
        self._lost = _Origin(self.policy.expiry)  # the counts of all that were forgotten
        self._pools: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
        self.in_flight: Members = weakref.WeakValueDictionary()

    def add_manager(self, manager: Any) -> None:
        self._managers.append(weakref.ref(manager))

    def add_pool(self, pool: Pool) -> None:
        self._pools[id(pool)] = pool
        with self._lock:
            known = self._origins.pop(pool.place, None)
            self._origins[pool.place] = self._new_origin() if known is None else known
            if len(self._origins) > _MOST_ORIGINS:
                self._forget_origins()

    def _new_origin(self) -> _Origin:
        # No connection of an origin that was forgotten can be as young as this.
        return _Origin(self.policy.expiry, self._lost_floor)

    def _forget_origins(self) -> None:
        """Forget the origins that have no pool, those first whose pool was made first, beyond the most."""
        in_use = {each.place for each in self.pools()}
        unused = [place for place in self._origins if place not in in_use]
        for place in unused[: len(self._origins) - _MOST_ORIGINS]:
            origin = self._origins.pop(place)
            self._lost_floor = max(self._lost_floor, origin.floor)
            for name in _COUNTS:
                setattr(self._lost, name, getattr(self._lost, name) + getattr(origin, name))

    def pools(self) -> list[Pool]:
        """Return all pools there are, also those that their manager has forgotten already."""
        return [pool for ref in self._pools.valuerefs() if (pool := ref()) is not None]

    def idle(self) -> int:
        """Return the number of pooled connections."""
        return sum(len(pool.idle) for pool in self.pools())

    def calls(self) -> list[Call]:
        """Return the calls in flight: being sent, or with a response that has not ended."""
        return [call for ref in self.in_flight.valuerefs() if (call := ref()) is not None]

    # -- what connections ask ---------------------------------------------------------------------------------

    def share_context(self, conn: Any) -> None:
        self.tls.share(conn)

    def first_address(self, conn: RecyclingConnection) -> AddressInfo | None:
        """Return the address that the last dial of that origin reached, if its generation lives."""
        known = self._remembered(self._origin(conn.place))
        return None if known is None else known.address

    def _remembered(self, origin: _Origin) -> Remembered | None:
        known, floor = origin.remembered, max(origin.floor, self._floor)
        return known if known is not None and known.is_current(floor) else None

    def opened(self, conn: RecyclingConnection, attempt: Attempt) -> None:
        """A connection was dialled."""
        origin, reached = self._origin(conn.place), conn.reached
        with self._lock:
            origin.opened += 1
            if reached is not None:
                origin.remembered = Remembered(reached[0], conn.generation)
        if self._emitter.wants(ConnectionOpened) and conn.born is not None:
            elapsed = conn.born.age(self.clock())
            # Without a socket of ours to dial, the whole counts as connecting.
            connect = elapsed if conn.dialled is None else min(conn.born.age(conn.dialled), elapsed)
            self._emitter.emit(
                ConnectionOpened(
                    call_id=attempt.call.id,
                    origin=attempt.call.story.origin,
                    attempt=attempt.number,
                    elapsed=elapsed,
                    connect=connect,
                    handshake=elapsed - connect,
                    tls=getattr(conn.sock, "version", _no_version)(),
                    family=None if reached is None else family_name(reached[0][0]),
                    tries=None if reached is None else reached[1],
                )
            )

    # -- what pools ask ---------------------------------------------------------------------------------------

    def ensure_process(self) -> None:
        """Forget the parent's connections in a child that ran no at-fork hook (uWSGI runs none)."""
        if self._pid != os.getpid():
            with self._forked:
                if self._pid != os.getpid():
                    self.after_fork()

    def after_fork(self) -> None:
        """In the child: forget every connection without shutting it down, since the parent goes on using it."""
        pools = self.pools()
        for call in self.calls():
            call.disown()
        self._forget()
        self.tls.after_fork()
        for manager in [found for ref in self._managers if (found := ref()) is not None]:
            manager.pools = type(manager.pools)(manager.num_pools, manager.pools.dispose_func)
        for pool in pools:
            pool.after_fork()
        self._pid = os.getpid()  # last: from now on other threads pass

    def reason_to_close(self, conn: RecyclingConnection, now: _clock.Instant) -> str | None:  # noqa: PLR0911
        """Return why an idle connection must not be used again; None where it may."""
        if conn.sock is None:
            return "closed by the peer, or unread bytes"
        if conn.pid != self._pid:
            return "another process"
        if self.is_shut_down:
            return "shut down"
        origin, policy = self._origins.get(conn.place) or self._origin(conn.place), self.policy
        if conn.generation < self._floor or conn.generation < origin.floor:
            return "retired"
        since = conn.idle_since
        # It is this very instant where the connection is about to be pooled.
        idle_for = 0.0 if since is now else since.age(now) if since is not None else math.inf
        if idle_for >= policy.window(conn.hint) or (
            policy.adaptive and idle_for >= origin.window.limit(now.boot)
        ):
            return "idle window"
        if (
            policy.max_age is not None
            and conn.born is not None
            and conn.born.age(now) >= policy.max_age
        ):
            return "max_age"
        return None

    def recycled(self, conn: RecyclingConnection, reason: str, now: _clock.Instant) -> None:
        """Close a connection instead of using it, and tell."""
        conn.close()
        origin = self._origin(conn.place)
        with self._lock:
            origin.recycled += 1
        if self._emitter.wants(ConnectionRecycled):
            attempt = _attempt.current.get()
            self._emitter.emit(
                ConnectionRecycled(
                    call_id=attempt.call.id if attempt else None,
                    origin=attempt.call.story.origin if attempt else str(conn.place),
                    reason=reason,
                    idle_for=conn.idle_since.age(now) if conn.idle_since else None,
                )
            )

    def reused(self, conn: RecyclingConnection) -> None:
        """A pooled connection is about to be used again."""
        origin = self._origins.get(conn.place) or self._origin(conn.place)
        with self._lock:
            origin.reused += 1

    def good(self, place: Hashable, idle_for: float) -> None:
        """A reused connection brought a response."""
        origin = self._origins.get(place) or self._origin(place)
        origin.ages.append((idle_for, False))  # a deque takes it from any thread
        if idle_for > origin.window.longest_good:  # seldom, and this is on every call
            with self._lock:
                origin.window.good(idle_for)

    def retried(self, place: Hashable) -> None:
        """An attempt will be repeated."""
        origin = self._origin(place)
        with self._lock:
            origin.retries += 1

    def _origin(self, place: Hashable) -> _Origin:
        origin = self._origins.get(place)
        if origin is None:
            with self._lock:
                origin = self._origins.setdefault(place, self._new_origin())
        return origin

    def stats(self) -> AdapterStats:
        """Return what has happened so far."""
        now = self.clock().boot
        known = self._origins.copy()
        if any(getattr(self._lost, name) for name in _COUNTS):
            known["*"] = self._lost
        origins = {
            str(place): OriginStats(
                **{name: getattr(each, name) for name in _COUNTS},
                window=each.window.limit(now) if self.policy.adaptive else self.policy.expiry,
                youngest_stale=min(
                    (age for age, is_dead in each.ages.copy() if is_dead), default=None
                ),
                hint=_stats.hint(each.ages.copy()),
                address=None if (last := self._remembered(each)) is None else last.host,
            )
            for place, each in known.items()
        }
        return AdapterStats(
            generation=self.generation,
            in_flight=len(self.calls()),
            idle=self.idle(),
            origins=origins,
        )

    # -- what failures and users ask --------------------------------------------------------------------------

    def stale(self, place: Hashable, idle_for: float) -> None:
        """A reused connection turned out dead: narrow the origin's window below its idle age."""
        origin = self._origin(place)
        with self._lock:
            origin.stale += 1
            origin.window.stale(idle_for, self.clock().boot)
            origin.ages.append((idle_for, True))

    def retire(
        self, place: Hashable, generation: int, reason: str, call_id: str | None = None
    ) -> bool:
        """Retire the connections of one origin, unless somebody has already done so for this generation."""
        self.ensure_process()  # a stream of the parent's may end in a child that has not called yet
        with self._lock:
            origin = self._origin(place)
            if generation < max(origin.floor, self._floor):
                return False
            self.generation += 1
            origin.floor = current = self.generation
        self._tell_rotation(str(place), current, reason, call_id, self._close_idle(place))
        return True

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
        now = self.clock().boot
        if self.is_shut_down:
            return Rotation.CLOSED
        if (
            seen is not None and seen < self._floor
        ):  # what one origin has lost since says nothing of the others
            return Rotation.ALREADY_ROTATED
        if (
            seen is None
            and self._rotated_at is not None
            and 0 <= now - self._rotated_at < _COALESCE
        ):
            return Rotation.COALESCED
        self._rotated_at = now
        self._retire_all()
        return Rotation.ROTATED

    def _retire_all(self) -> None:
        self.generation += 1
        self._floor = self.generation
        # What a network did to idle connections says nothing about the next one.
        for origin in list(
            self._origins.values()
        ):  # a finalizer may come to know another one in between
            origin.window = AdaptiveWindow(self.policy.expiry)

    def close(self) -> None:
        """Close all idle connections, and those in flight when they return; the adapter can be used again."""
        with self._lock:
            self._retire_all()
        self._close_idle()

    def _close_idle(self, place: Hashable = None) -> int:
        return sum(
            pool.close_idle() for pool in self.pools() if place is None or pool.place == place
        )

    def _tell_rotation(
        self, origin: str, generation: int, reason: str, call_id: str | None, closed: int
    ) -> None:
        self._emitter.emit(
            PoolRotated(
                call_id=call_id, origin=origin, generation=generation, reason=reason, closed=closed
            )
        )


def _no_version() -> None:
    return None
