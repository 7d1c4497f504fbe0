"""Instants whose ages suspend, VM pause and clock steps cannot fool."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

__all__ = ["Clock", "Instant", "boot", "now"]


class Instant(NamedTuple):
    """One moment on three clocks, in seconds; immutable.

    ``monotonic`` stops while the machine sleeps, ``boot`` goes on but stops while a VM is paused, ``wall`` sees
    both but is stepped by people and NTP: each is fooled by something that the other two notice.
    """

    monotonic: float
    boot: float
    wall: float

    def age(self, now: Instant) -> float:
        """Return the seconds from this moment to ``now``: the largest that any clock has counted.

        A wrong age costs one dial, a socket that only looks young costs a call: so the largest, never below zero.
        """
        return max(now.monotonic - self.monotonic, now.boot - self.boot, now.wall - self.wall, 0.0)


Clock = Callable[[], Instant]

_BOOTTIME: int | None = getattr(time, "CLOCK_BOOTTIME", None)


def boot() -> float:
    """Return the seconds of the boot-time clock; of the monotonic one where the platform has none."""
    return time.monotonic() if _BOOTTIME is None else time.clock_gettime(_BOOTTIME)


def now() -> Instant:
    """Return the present moment."""
    return Instant(time.monotonic(), boot(), time.time())
