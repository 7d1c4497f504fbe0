"""Which idle times are tried, and how long an answer is awaited: pure arithmetic, all in seconds."""

from __future__ import annotations

from resilient_requests.transport import TCPKeepAlive

__all__ = ["answer_limit", "between", "probes", "rungs"]

_RUNGS = (1, 2, 5, 10, 20, 30, 45, 60, 90, 120, 180, 300)
_POINTS = 4
# Below the last rung by at least a quarter, so that a refinement that begins there ends in under twice the last.
_NEXT_TO_LAST = 0.75


def rungs(longest: float) -> tuple[float, ...]:
    """Return the usual idle times below ``longest``, and ``longest`` itself."""
    return (*(float(each) for each in _RUNGS if each <= _NEXT_TO_LAST * longest), longest)


def between(good: float, bad: float) -> tuple[float, ...]:
    """Return the idle times that narrow down a limit which lies between the two."""
    step = (bad - good) / (_POINTS + 1)
    return tuple(round(good + step * number, 3) for number in range(1, _POINTS + 1))


def answer_limit(usual: float, longest: float) -> float:
    """Return how long to wait for an answer that takes ``usual`` on a fresh connection, until it is a black hole.

    Two seconds leave room for three retransmissions by TCP; a quarter of the last rung keeps the whole short.
    """
    return min(max(10 * usual, 2.0), 10.0, max(longest / 4, 1.0))


def probes(longest: float) -> TCPKeepAlive:
    """Return the keep-alive settings to try: the adapter's own where the ladder is long enough for them."""
    own = TCPKeepAlive()
    idle = max(min(own.idle, int(longest / 8)), 1)
    return TCPKeepAlive(idle=idle, interval=max(min(own.interval, idle // 3), 1))
