"""The process that pools, tokens and budgets belong to, and what is done in a forked child."""

from __future__ import annotations

import os
import threading
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Process"]


class Process:
    """Notices that this is a forked child, and has its listeners forget the parent's things, once.

    By an at-fork hook, and by the process id where none ran: uWSGI runs none. One re-entrant lock, held
    nowhere else, lets one thread of the child do it while the others wait.
    """

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._listeners: list[weakref.WeakMethod[Callable[[], None]]] = []
        _PROCESSES.add(self)

    def on_fork(self, method: Callable[[], None]) -> None:
        """Call a method of an object that lives on, in a forked child; in the order in which they came."""
        self._listeners.append(weakref.WeakMethod(method))

    @property
    def pid(self) -> int:
        """Its id, as it was when somebody last looked."""
        return self._pid

    def ensure(self) -> None:
        """Forget the parent's things in a child that ran no at-fork hook."""
        if self._pid != os.getpid():
            with self._lock:
                if self._pid != os.getpid():
                    self.forked()

    def forked(self) -> None:
        """This is the child."""
        for listener in self._listeners:
            if (method := listener()) is not None:
                method()
        self._pid = os.getpid()  # last: from now on other threads pass


# An at-fork hook cannot be unregistered: one for all that are alive.
_PROCESSES: weakref.WeakSet[Process] = weakref.WeakSet()


def _tell_child() -> None:
    for process in list(_PROCESSES):
        process.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_tell_child)
