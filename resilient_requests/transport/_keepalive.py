"""How long an idle connection may be reused."""

from __future__ import annotations

import re
from dataclasses import dataclass

from resilient_requests import _checks

__all__ = ["AdaptiveWindow", "KeepAlivePolicy", "parse_hint", "window_of"]

_TIMEOUT = re.compile(
    r"(?:^|[,;\s])timeout\s*=\s*\"?(\d+(?:\.\d+)?)\"?\s*(?:$|[,;])", re.IGNORECASE
)

# Below half a second a window costs more dials than it saves calls, whatever the path does.
_FLOOR = 0.5
# Of an age that was deadly: at one a hair below, the next connection may be dead as well.
_WELL_BELOW = 0.9
_DOUBLES_EVERY = 60.0


# A hint without a limit in its digits would be infinite, which JSON cannot say.
_MOST_SECONDS = 1e9


def parse_hint(value: str | None) -> float | None:
    """Return the seconds of ``timeout=`` in a ``Keep-Alive`` header; None where there is none or it is malformed."""
    match = _TIMEOUT.search(value) if value else None
    return min(float(match[1]), _MOST_SECONDS) if match else None


@dataclass(frozen=True, kw_only=True)
class KeepAlivePolicy:
    """How long an idle connection may be reused; immutable, all in seconds.

    ``expiry``: the window; 0 never reuses. 10 s is below the idle limit of every NAT and load balancer known to
    us except a few routers that forget after 10 s. ``max_age``: replace a connection this long after it was
    opened, however busy (None: no limit). ``hint_margin``: a server's ``Keep-Alive: timeout=`` shortens the
    window to that minus this margin (it never widens it); a hint not above the margin means no reuse.
    ``adaptive``: narrow the window of an origin below the idle ages at which its connections turned out dead.

    Raises TypeError or ValueError naming the parameter.
    """

    expiry: float = 10.0
    max_age: float | None = None
    hint_margin: float = 2.0
    adaptive: bool = True

    def __post_init__(self) -> None:
        _checks.number("expiry", self.expiry, least=0)
        _checks.duration("max_age", self.max_age)
        _checks.number("hint_margin", self.hint_margin, least=0)
        _checks.flag("adaptive", self.adaptive)


def window_of(policy: KeepAlivePolicy, hint: float | None) -> float:
    """Return the seconds an idle connection may be reused; the server may shorten it, never widen it."""
    return (
        policy.expiry if hint is None else min(policy.expiry, max(hint - policy.hint_margin, 0.0))
    )


class AdaptiveWindow:
    """What one origin has taught about idle connections; the caller guards it. ``now`` is boot time in seconds."""

    def __init__(self, expiry: float) -> None:
        self._expiry = expiry
        self._limit = expiry
        self._since = 0.0
        self.longest_good = 0.0  # idle age at which a connection was alive

    def limit(self, now: float) -> float:
        """Return the window in seconds: the last lesson, doubled with each whole minute since, at most ``expiry``."""
        if self._limit >= self._expiry:
            return self._expiry
        # In whole minutes: where idle ages lie around the path's limit, any growth soon leads back to a deadly one.
        grown: float = self._limit * 2.0 ** min(max(now - self._since, 0.0) // _DOUBLES_EVERY, 64.0)
        return min(grown, self._expiry)

    def good(self, idle_for: float) -> None:
        """A reused connection that had been idle for ``idle_for`` seconds was alive."""
        self.longest_good = max(idle_for, self.longest_good)

    def stale(self, idle_for: float, now: float) -> None:
        """A reused connection that had been idle for ``idle_for`` seconds was dead: shrink below that age.

        To the longest age that was alive, but well below the deadly one, or else to half of that.
        """
        if self.longest_good >= idle_for:
            self.longest_good = 0.0  # the path has changed: what it allowed once says nothing
        self._limit = min(
            max(idle_for / 2, min(self.longest_good, idle_for * _WELL_BELOW), _FLOOR),
            self.limit(now),
        )
        self._since = now
