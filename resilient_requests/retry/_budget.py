"""A token bucket per origin, so that retries do not multiply an outage."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from resilient_requests import _checks

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ["OriginBudgets", "RetryBudget", "TokenBucket"]

# A bound: an adapter of a crawler must not remember every host.
_MOST_ORIGINS = 512


@dataclass(frozen=True, kw_only=True)
class RetryBudget:
    """The most that retries may cost at one origin; immutable, safe to share.

    ``capacity`` is the number of tokens at the start, and their maximum. ``deposit`` is added per
    successful call, ``trickle`` per second. A retry costs 1 token, or 2 after a response timeout or
    a body that had begun. The tokens are kept by the adapter, per origin and process.

    The defaults come from a simulation at one call a second: they keep an outage below 1.2 attempts
    per call, and lose under 2 % of the calls at 20 % random loss (deposits of 0.2: up to 6.6 %).

    Raises TypeError or ValueError naming the parameter.
    """

    capacity: float = 10
    deposit: float = 0.3
    trickle: float = 0.1

    def __post_init__(self) -> None:
        _checks.number("capacity", self.capacity, least=0)
        _checks.number("deposit", self.deposit, least=0)
        _checks.number("trickle", self.trickle, least=0)


class TokenBucket:
    """The tokens of one origin, guarded by one lock; ``now`` is boot time in seconds."""

    def __init__(self, budget: RetryBudget, now: float) -> None:
        self._budget = budget
        self._lock = threading.Lock()
        self._tokens = float(budget.capacity)
        self._since = now

    def withdraw(self, cost: float, now: float) -> bool:
        """Take ``cost`` tokens and return True, or take none and return False; never waits."""
        with self._lock:
            self._fill(now)
            if self._tokens < cost:
                return False
            self._tokens -= cost
            return True

    def deposit(self, now: float) -> None:
        """Add the tokens that one successful call earns."""
        with self._lock:
            self._fill(now)
            self._tokens = min(self._tokens + self._budget.deposit, self._budget.capacity)

    def tokens(self, now: float) -> float:
        """Return the number of tokens."""
        with self._lock:
            self._fill(now)
            return self._tokens

    def is_full(self, now: float) -> bool:
        """Return True if the bucket is full, as a new one is."""
        return self.tokens(now) >= self._budget.capacity

    def _fill(self, now: float) -> None:
        # A clock that steps back adds nothing, and ``_since`` follows it: otherwise the trickle
        # would stop until the clock has caught up.
        elapsed, self._since = max(now - self._since, 0.0), now
        self._tokens = min(self._tokens + elapsed * self._budget.trickle, self._budget.capacity)


class OriginBudgets:
    """The buckets of one adapter in one process, by origin; used from any thread.

    A bucket is made at the first retry of its origin, since full buckets need not be kept.
    """

    def __init__(self) -> None:
        self._buckets: dict[Hashable, TokenBucket] = {}

    def known(self, origin: Hashable) -> TokenBucket | None:
        """Return the bucket of an origin; None if no retry has drawn on it."""
        return self._buckets.get(origin)

    def bucket(self, origin: Hashable, budget: RetryBudget, now: float) -> TokenBucket:
        """Return the bucket of an origin at boot time ``now``; a new bucket is full."""
        if origin not in self._buckets and len(self._buckets) >= _MOST_ORIGINS:
            # A full bucket equals a new one, so it can go.
            kept = [pair for pair in list(self._buckets.items()) if not pair[1].is_full(now)]
            self._buckets = dict(kept[-_MOST_ORIGINS + 1 :])
        return self._buckets.setdefault(origin, TokenBucket(budget, now))
