"""CancelScope: one call of ``cancel()`` ends everything that began inside it."""

from __future__ import annotations

import enum
import weakref
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol

from resilient_requests import _checks
from resilient_requests.call._clock import boot

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["CancelScope", "Cancellable", "current_scope"]


class Cancellable(Protocol):
    """A member of a scope: a call, or a scope inside."""

    def cancel(self) -> None:
        """End it at once; safe from any thread and in signal handlers."""


class _State(enum.Enum):
    NEW = "new"
    OPEN = "open"
    LEFT = "left"


_SCOPE: ContextVar[CancelScope | None] = ContextVar("resilient_requests_scope", default=None)


class CancelScope:
    """A context manager; ``cancel()`` ends at once everything that began inside it.

    That covers connect, send, the wait for headers, backoff and streams. A stream keeps the scope
    in which it began. Name resolution cannot be interrupted: the call ends when it returns.

    ``timeout``: seconds from entering until everything inside raises `DeadlineExceeded`; None is no
    limit. Scopes nest: an outer scope ends the inner ones, and the earliest deadline counts.

    One thread enters a scope, once. ``cancel()`` may come from any thread or signal handler, any
    number of times, before, inside and after.

    Raises TypeError or ValueError naming the parameter, RuntimeError if it is entered twice.
    """

    def __init__(self, timeout: float | None = None) -> None:
        self._timeout = _checks.duration("timeout", timeout)
        self._state = _State.NEW
        self._cancelled = False
        self._outer: CancelScope | None = None
        self._deadline: float | None = None
        # Not a WeakSet: listing one fails while another thread adds to it. ``valuerefs`` copies
        # atomically.
        self._members: weakref.WeakValueDictionary[int, Cancellable] = weakref.WeakValueDictionary()

    def __repr__(self) -> str:
        state = "cancelled" if self.is_cancelled else self._state.value
        return f"<CancelScope {state} timeout={self._timeout}>"

    @property
    def is_cancelled(self) -> bool:
        """True if this scope or one around it was cancelled; a passed timeout is no cancel."""
        return self._cancelled or (self._outer is not None and self._outer.is_cancelled)

    def cancel(self) -> None:
        """End everything inside at once with `Cancelled`; return without waiting for it."""
        self._cancelled = True
        for ref in self._members.valuerefs():
            if (member := ref()) is not None:
                member.cancel()

    def __enter__(self) -> Self:
        if self._state is not _State.NEW:
            raise RuntimeError("a CancelScope can be entered only once: make a new one")
        self._state = _State.OPEN
        self._outer = outer = current_scope()
        if self._timeout is not None:
            self._deadline = boot() + self._timeout
        if outer is not None:
            deadline = outer._take_in(self)
            both = [each for each in (self._deadline, deadline) if each is not None]
            self._deadline = min(both, default=None)
        _SCOPE.set(self)
        return self

    def __exit__(self, *exc_info: object) -> None:
        # No token of the context variable: another thread may close a generator, and a token is
        # valid only in the context that made it.
        self._state = _State.LEFT
        if _SCOPE.get() is self:
            _SCOPE.set(current_scope())

    def _take_in(self, member: Cancellable) -> float | None:
        """Have ``cancel()`` end a member too; return the deadline (boot time), None without one."""
        self._members[id(member)] = member
        return self._deadline

    def _let_go(self, member: Cancellable) -> None:
        """Forget a member that has ended."""
        self._members.pop(id(member), None)


def current_scope() -> CancelScope | None:
    """Return the innermost open scope; None without one.

    A scope entered in a generator stays in the caller's context if another thread closes the
    generator: such a scope is skipped.
    """
    scope = _SCOPE.get()
    while scope is not None and scope._state is _State.LEFT:
        scope = scope._outer
    return scope
