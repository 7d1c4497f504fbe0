"""The state of one origin, and the lease that a connection has in it."""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING, Protocol

from resilient_requests.transport._keepalive import AdaptiveWindow
from resilient_requests.transport._stats import OriginStats, hint

if TYPE_CHECKING:
    from resilient_requests.call import Origin
    from resilient_requests.transport.dial import Remembered

__all__ = ["ConnectionLease", "OriginState"]

# Idle ages kept per origin: enough for the statistics' hint, and a bound for the memory.
_MOST_AGES = 256


class OriginState:
    """The state of one origin: the least generation to reuse, its idle window, and its counts.

    Guarded by the lock of its `PoolState`.
    """

    __slots__ = ("_ages", "_counts", "_expiry", "_remembered", "floor", "window")

    def __init__(self, expiry: float, floor: int) -> None:
        self._expiry = expiry
        self.floor = floor
        self.window = AdaptiveWindow(expiry)
        self._counts: collections.Counter[str] = collections.Counter()
        self._remembered: Remembered | None = None
        # Idle ages in seconds of the last reuses; True if the connection was dead.
        self._ages: collections.deque[tuple[float, bool]] = collections.deque(maxlen=_MOST_AGES)

    def count(self, name: str) -> None:
        """Count one more of ``name``."""
        self._counts[name] += 1

    def retire(self, generation: int) -> None:
        """Retire the connections of generations before ``generation``."""
        self.floor = generation

    def relearn(self) -> None:
        """Forget the learned window: it may not hold in another network."""
        self.window = AdaptiveWindow(self._expiry)

    def good(self, idle_for: float) -> None:
        """A connection was alive after ``idle_for`` seconds idle."""
        self._ages.append((idle_for, False))
        self.window.good(idle_for)

    def stale(self, idle_for: float, boot: float) -> None:
        """A connection was dead after ``idle_for`` seconds idle: narrow the window below that."""
        self._ages.append((idle_for, True))
        self._counts["stale"] += 1
        self.window.stale(idle_for, boot)

    def add(self, other: OriginState) -> None:
        """Add the counts of another origin, which is about to be forgotten."""
        self._counts.update(other._counts)
        self.floor = max(self.floor, other.floor)

    @property
    def has_counted(self) -> bool:
        """True if there is any count."""
        return bool(self._counts)

    def remember(self, address: Remembered) -> None:
        """Keep the address that the last dial reached."""
        self._remembered = address

    def remembered(self, floor: int) -> Remembered | None:
        """Return the kept address unless its generation is retired; ``floor``: of all origins."""
        known = self._remembered
        return known if known and known.is_current(max(self.floor, floor)) else None

    def stats(self, window: float, floor: int) -> OriginStats:
        """Return the figures for users; ``window`` in seconds."""
        known = self.remembered(floor)
        ages, counts = self._ages.copy(), self._counts
        return OriginStats(
            opened=counts["opened"],
            reused=counts["reused"],
            recycled=counts["recycled"],
            stale=counts["stale"],
            retries=counts["retries"],
            window=window,
            youngest_stale=min((age for age, is_dead in ages if is_dead), default=None),
            hint=hint(ages),
            address=None if known is None else known.host,
        )


class _Keeper(Protocol):
    """The owner of the origins."""

    def count(self, origin: Origin, name: str) -> None: ...
    def good(self, origin: Origin, idle_for: float) -> None: ...
    def stale(self, origin: Origin, idle_for: float) -> None: ...
    def retire(self, origin: Origin, generation: int, reason: str, call_id: str | None) -> bool: ...


class ConnectionLease:
    """The lease of a connection on its origin and generation; see `call.Lease`."""

    __slots__ = ("_generation", "_state", "origin")

    def __init__(self, state: _Keeper, origin: Origin, generation: int) -> None:
        self._state = state
        self.origin = origin
        self._generation = generation

    def retire(self, reason: str, call_id: str | None) -> None:
        """Retire the connections of the origin, unless that was done after this one was made."""
        self._state.retire(self.origin, self._generation, reason, call_id)

    def was_good(self, idle_for: float) -> None:
        """A connection reused after ``idle_for`` seconds brought a response."""
        self._state.good(self.origin, idle_for)

    def was_stale(self, idle_for: float) -> None:
        """A connection reused after ``idle_for`` seconds was dead: narrow the origin's window."""
        self._state.stale(self.origin, idle_for)

    def retried(self) -> None:
        """Another attempt follows."""
        self._state.count(self.origin, "retries")
