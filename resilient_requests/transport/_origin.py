"""What is known of one origin, and the place of a connection in it."""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING, Protocol

from resilient_requests.transport._keepalive import AdaptiveWindow
from resilient_requests.transport._stats import OriginStats, hint

if TYPE_CHECKING:
    from resilient_requests.call import Origin
    from resilient_requests.transport.dial import Remembered

__all__ = ["ConnectionLease", "OriginState"]

_MOST_AGES = 256


class OriginState:
    """What is known of one origin: the least generation of its connections, and what idleness does to them.

    Guarded by the lock of its `PoolState`.
    """

    __slots__ = ("_ages", "_counts", "_expiry", "_remembered", "floor", "window")

    def __init__(self, expiry: float, floor: int) -> None:
        self._expiry = expiry
        self.floor = floor
        self.window = AdaptiveWindow(expiry)
        self._counts: collections.Counter[str] = collections.Counter()
        self._remembered: Remembered | None = None
        # Idle ages of the connections reused last, and whether they were dead.
        self._ages: collections.deque[tuple[float, bool]] = collections.deque(maxlen=_MOST_AGES)

    def count(self, name: str) -> None:
        """Count one more of something."""
        self._counts[name] += 1

    def retire(self, generation: int) -> None:
        """Have connections of earlier generations retired."""
        self.floor = generation

    def relearn(self) -> None:
        """Forget what idleness does: a network says nothing about the next one."""
        self.window = AdaptiveWindow(self._expiry)

    def good(self, idle_for: float) -> None:
        """A connection that lay idle for so long was alive."""
        self._ages.append((idle_for, False))
        self.window.good(idle_for)

    def stale(self, idle_for: float, boot: float) -> None:
        """A connection that lay idle for so long was dead: narrow the window below that age."""
        self._ages.append((idle_for, True))
        self._counts["stale"] += 1
        self.window.stale(idle_for, boot)

    def add(self, other: OriginState) -> None:
        """Take over what another origin has counted, which is about to be forgotten."""
        self._counts.update(other._counts)
        self.floor = max(self.floor, other.floor)

    @property
    def has_counted(self) -> bool:
        """Whether anything was counted."""
        return bool(self._counts)

    def remember(self, address: Remembered) -> None:
        """Know which address the last dial has reached."""
        self._remembered = address

    def remembered(self, floor: int) -> Remembered | None:
        """Return it, unless its generation is retired; ``floor``: the least of all origins."""
        known = self._remembered
        return known if known and known.is_current(max(self.floor, floor)) else None

    def stats(self, window: float, floor: int) -> OriginStats:
        """Return the figures."""
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
    """Who keeps the origins."""

    def count(self, origin: Origin, name: str) -> None: ...
    def good(self, origin: Origin, idle_for: float) -> None: ...
    def stale(self, origin: Origin, idle_for: float) -> None: ...
    def retire(self, origin: Origin, generation: int, reason: str, call_id: str | None) -> bool: ...


class ConnectionLease:
    """A connection in use, as one of those of its origin and generation; see `call.Lease`."""

    __slots__ = ("_generation", "_state", "origin")

    def __init__(self, state: _Keeper, origin: Origin, generation: int) -> None:
        self._state = state
        self.origin = origin
        self._generation = generation

    def retire(self, reason: str, call_id: str | None) -> None:
        """Retire the connections of the origin, unless that was done since this one was made."""
        self._state.retire(self.origin, self._generation, reason, call_id)

    def was_good(self, idle_for: float) -> None:
        """A reused connection brought a response."""
        self._state.good(self.origin, idle_for)

    def was_stale(self, idle_for: float) -> None:
        """A reused connection turned out dead: narrow the origin's window below its idle age."""
        self._state.stale(self.origin, idle_for)

    def is_retried(self) -> None:
        """Another attempt follows."""
        self._state.count(self.origin, "retries")
