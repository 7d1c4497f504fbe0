"""The current attempt and operation of this thread or greenlet, and the Retry of its adapter."""

from __future__ import annotations

from contextvars import ContextVar

import urllib3

from resilient_requests.call._attempt import Attempt

__all__ = ["AdapterRetry", "current_attempt", "current_operation"]

# One variable for both, so that the innermost counts: the body iterator of an attempt may send a
# request, and that request is an operation of its own.
_CURRENT: ContextVar[object] = ContextVar("resilient_requests_current", default=None)


class _Inside:
    """A context manager that makes an object the current one of this thread or greenlet."""

    __slots__ = ("_current", "_outer")

    def __init__(self, current: object) -> None:
        self._current = current

    def __enter__(self) -> None:
        # Restored, not cleared: a body iterator may send a request of its own in the middle of
        # ours.
        self._outer = _CURRENT.get()
        _CURRENT.set(self._current)

    def __exit__(self, *exc_info: object) -> None:
        _CURRENT.set(self._outer)


class current_attempt(_Inside):  # noqa: N801  # a statement: ``with current_attempt(attempt)``
    """Make ``attempt`` the one that pools hand to their connections.

    A context variable, because urllib3 stands between the adapter and its pools, and passes on no
    argument that it does not know.
    """

    __slots__ = ()

    @staticmethod
    def get() -> Attempt | None:
        """Return the current attempt; None if no adapter of ours sends."""
        current = _CURRENT.get()
        return current if isinstance(current, Attempt) else None


class current_operation(_Inside):  # noqa: N801  # as above
    """Make the sends inside join one operation.

    A context variable, because requests' session stands between the operation and its sends.
    """

    __slots__ = ()

    @staticmethod
    def get() -> object:
        """Return the current operation, or the attempt that runs inside it; None without either."""
        return _CURRENT.get()


class AdapterRetry(urllib3.Retry):
    """The Retry with which an adapter of ours sends a request: urllib3 itself repeats nothing.

    ``plain`` is the Retry that urllib3 itself obeys if no call of ours runs: a subclass may have
    copied ``HTTPAdapter.send``. None if there is none.
    """

    plain: urllib3.Retry | None = None
