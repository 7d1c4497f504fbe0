"""Instants, and ages that are right after a suspend, a paused VM or a clock step."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

__all__ = ["Clock", "Instant", "boot", "now"]


class Instant(NamedTuple):
    """One moment on three clocks, in seconds; immutable.

    ``monotonic`` stops while the machine sleeps. ``boot`` counts that sleep, but stops while a VM
    is paused. ``wall`` counts both, but people and NTP set it. Each of the three errs in a case
    that another one notices.
    """

    monotonic: float
    boot: float
    wall: float

    def age(self, now: Instant) -> float:
        """Return the seconds from this moment to ``now``: the largest that any clock has counted.

        An age too large costs one dial. An age too small costs a call, on a dead connection. So the
        largest counts, and never one below zero.
        """
        return max(now.monotonic - self.monotonic, now.boot - self.boot, now.wall - self.wall, 0.0)


Clock = Callable[[], Instant]
_new_instant = partial(tuple.__new__, Instant)  # the constructor of a named tuple is Python code

# Linux has this clock (clock_gettime(2)); elsewhere the monotonic one stands in. No function of
# Python, because each call asks eight times.
boot: Callable[[], float] = (
    partial(time.clock_gettime, time.CLOCK_BOOTTIME)
    if hasattr(time, "CLOCK_BOOTTIME")
    else time.monotonic
)
"""Returns the seconds of the boot-time clock, or of the monotonic one if there is no other."""


def now() -> Instant:
    """Return the present moment."""
    return _new_instant((time.monotonic(), boot(), time.time()))
