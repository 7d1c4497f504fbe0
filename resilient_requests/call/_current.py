"""The attempt, and the operation, in which this thread (or greenlet) is."""

from __future__ import annotations

from contextvars import ContextVar

from resilient_requests.call._attempt import Attempt

__all__ = ["current_attempt", "current_operation"]

# One variable for both: where an attempt runs, a request that its body iterator sends is an
# operation of its own.
_CURRENT: ContextVar[object] = ContextVar("resilient_requests_current", default=None)


class _Inside:
    """Inside, this is the current one of this thread (or greenlet)."""

    __slots__ = ("_current", "_outer")

    def __init__(self, current: object) -> None:
        self._current = current

    def __enter__(self) -> None:
        # A body iterator may send a request of its own in the middle of ours: restore, do not
        # clear.
        self._outer = _CURRENT.get()
        _CURRENT.set(self._current)

    def __exit__(self, *exc_info: object) -> None:
        _CURRENT.set(self._outer)


class current_attempt(_Inside):  # noqa: N801  # reads as a statement: ``with current_attempt(attempt)``
    """Make ``attempt`` the one that pools hand to their connections.

    urllib3 calls pools with arguments of its own, between us and them: hence a context variable.
    """

    __slots__ = ()

    @staticmethod
    def get() -> Attempt | None:
        """Return it; None where no adapter of ours sends."""
        current = _CURRENT.get()
        return current if isinstance(current, Attempt) else None


class current_operation(_Inside):  # noqa: N801  # as above
    """Have sends join an operation; between it and them is requests' session, with arguments of its own."""

    __slots__ = ()

    @staticmethod
    def get() -> object:
        """Return it, or the attempt that runs inside of it; None where there is neither."""
        return _CURRENT.get()
