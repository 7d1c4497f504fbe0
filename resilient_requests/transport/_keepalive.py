"""Whether an idle connection may be reused: its age, and the silence of its socket."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from typing import Any

from urllib3.util.wait import wait_for_read

from resilient_requests import _checks
from resilient_requests.call import foreign_in

__all__ = ["AdaptiveWindow", "KeepAlivePolicy", "is_silent", "parse_hint", "window_of"]

_TIMEOUT = re.compile(
    r"(?:^|[,;\s])timeout\s*=\s*\"?(\d+(?:\.\d+)?)\"?\s*(?:$|[,;])", re.IGNORECASE
)

# Seconds. A smaller window costs more dials than it saves calls, on any path.
_FLOOR = 0.5
# Part of an age at which a connection was dead: just below that age the next may be dead as well.
_WELL_BELOW = 0.9
# Seconds after which a narrowed window is tried at twice its size.
_DOUBLES_EVERY = 60.0


# Seconds. A hint with enough digits would be infinite as a float, and JSON has no infinity.
_MOST_SECONDS = 1e9


def parse_hint(value: str | None) -> float | None:
    """Return the seconds of ``timeout=`` in a ``Keep-Alive`` header.

    None if the header is absent, or malformed.
    """
    match = _TIMEOUT.search(value) if value else None
    return min(float(match[1]), _MOST_SECONDS) if match else None


def is_silent(sock: Any) -> bool:
    """Return True if nothing has arrived on an idle socket: no FIN, no reset, and no bytes.

    A flow that a NAT has forgotten looks silent: only its age tells, in
    `PoolState.reason_to_close`. Raises the error of other code that a poll has run.
    """
    try:
        return not wait_for_read(sock, timeout=0.0) or _has_only_records(sock)
    except (OSError, ValueError) as error:
        if foreign_in(error) is not None:
            raise
        return False


def _has_only_records(sock: object) -> bool:
    """Return True if a socket has received nothing but TLS records; reads these.

    TLS 1.3 sends session tickets and key updates after the handshake (RFC 8446, section 4.6), and
    they make an idle connection readable. Raises OSError if the connection is dead.
    """
    if not isinstance(sock, ssl.SSLSocket):
        return False
    limit = sock.gettimeout()
    sock.settimeout(0)
    try:
        sock.recv(1)
    except ssl.SSLWantReadError:
        return True
    finally:
        sock.settimeout(limit)
    return False  # an end, or a byte that nobody asked for


@dataclass(frozen=True, kw_only=True)
class KeepAlivePolicy:
    """Limits for the reuse of idle connections, in seconds; immutable.

    ``expiry`` is the idle window; 0 never reuses. The default of 10 s is below the idle limit of
    each NAT and load balancer that we know, except for a few routers that forget after 10 s.
    ``max_age`` replaces a connection that long after it was opened, however busy it is; None is no
    limit. A server's ``Keep-Alive: timeout=`` less ``hint_margin`` may shorten the window, but
    never widens it; a hint not above the margin means no reuse. The margin covers
    the way to the server and back, and clocks that differ. ``adaptive`` narrows the window of
    an origin below the idle ages at which its connections were dead.

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
    """Return the idle window in seconds; a server's hint may shorten it, but never widens it."""
    return (
        policy.expiry if hint is None else min(policy.expiry, max(hint - policy.hint_margin, 0.0))
    )


class AdaptiveWindow:
    """The learned idle window of one origin; guarded by its owner. ``now`` is boot time (s)."""

    def __init__(self, expiry: float) -> None:
        self._expiry = expiry
        self._limit = expiry
        self._since = 0.0
        self.longest_good = 0.0  # the longest idle age at which a connection was alive

    def limit(self, now: float) -> float:
        """Return the window in seconds, at most ``expiry``.

        It doubles with each whole minute since it was narrowed.
        """
        if self._limit >= self._expiry:
            return self._expiry
        # In whole minutes: if idle ages lie around the limit of the path, continuous growth soon
        # leads back to an age at which connections are dead.
        grown: float = self._limit * 2.0 ** min(max(now - self._since, 0.0) // _DOUBLES_EVERY, 64.0)
        return min(grown, self._expiry)

    def good(self, idle_for: float) -> None:
        """A connection was alive after ``idle_for`` seconds idle."""
        self.longest_good = max(idle_for, self.longest_good)

    def stale(self, idle_for: float, now: float) -> None:
        """A connection was dead after ``idle_for`` seconds idle: narrow the window below that.

        It becomes the longest age at which one was alive, but well below ``idle_for``; or half of
        ``idle_for`` if that is more.
        """
        if self.longest_good >= idle_for:
            self.longest_good = 0.0  # the path has changed, so the older observation is void
        self._limit = min(
            max(idle_for / 2, min(self.longest_good, idle_for * _WELL_BELOW), _FLOOR),
            self.limit(now),
        )
        self._since = now
