"""The process that pools, tokens and budgets belong to, and their reset in a forked child."""

from __future__ import annotations

import os
import threading
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Process"]


class Process:
    """The process of an adapter; in a forked child, its listeners forget the parent once.

    An at-fork hook does that, or `ensure` by the process id where no hook ran: uWSGI forks in C and
    runs none. One re-entrant lock lets one thread of the child do it while the others wait. No
    other code takes this lock. ``pid`` is as of the last `ensure` or fork.
    """

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._lock = threading.RLock()
        self._listeners: list[weakref.WeakMethod[Callable[[], None]]] = []
        _PROCESSES.add(self)

    def on_fork(self, method: Callable[[], None]) -> None:
        """Call a method in a forked child, in order of registration.

        Methods are held weakly: an object that has gone is skipped.
        """
        self._listeners.append(weakref.WeakMethod(method))

    def ensure(self) -> None:
        """Forget the parent's things in a child that ran no at-fork hook."""
        if self.pid != os.getpid():
            with self._lock:
                if self.pid != os.getpid():
                    self.forked()

    def forked(self) -> None:
        """Call the listeners: this process is the child."""
        for listener in self._listeners:
            if (method := listener()) is not None:
                method()
        self.pid = os.getpid()  # last: from here on `ensure` lets other threads pass


# os.register_at_fork has no inverse, so there is one hook, and a weak set of living objects.
_PROCESSES: weakref.WeakSet[Process] = weakref.WeakSet()


def _tell_child() -> None:
    for process in list(_PROCESSES):
        process.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_tell_child)
