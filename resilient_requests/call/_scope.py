"""CancelScope: everything begun inside it ends at once."""

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
    """What a scope ends: a call, or a scope inside."""

    def cancel(self) -> None:
        """End it at once; safe from any thread and in signal handlers."""


class _State(enum.Enum):
    NEW = "new"
    OPEN = "open"
    LEFT = "left"


_SCOPE: ContextVar[CancelScope | None] = ContextVar("resilient_requests_scope", default=None)


class CancelScope:
    """Everything begun inside (connect, send, wait for headers, backoff, streams) ends at once on ``cancel()``.

    ``timeout``: seconds from entering until everything inside raises `DeadlineExceeded`; None: no
    limit. Scopes nest: an outer one ends the inner ones, the earliest deadline counts. A stream
    keeps the scope in which it began. One thread enters a scope, once; ``cancel()`` may come from
    any thread or signal handler, any number of times, before, inside and after. Name resolution
    cannot be interrupted: there the end comes when it returns.

    Raises TypeError or ValueError naming the parameter; RuntimeError when entered twice.
    """

    def __init__(self, timeout: float | None = None) -> None:
        self._timeout = _checks.duration("timeout", timeout)
        self._state = _State.NEW
        self._cancelled = False
        self._outer: CancelScope | None = None
        self._deadline: float | None = None
        # No WeakSet: that cannot be listed while another thread adds to it; ``valuerefs`` copies atomically.
        self._members: weakref.WeakValueDictionary[int, Cancellable] = weakref.WeakValueDictionary()

    def __repr__(self) -> str:
        state = "cancelled" if self.is_cancelled else self._state.value
        return f"<CancelScope {state} timeout={self._timeout}>"

    @property
    def is_cancelled(self) -> bool:
        """Whether this scope or one around it was cancelled (not: whether the timeout has passed)."""
        return self._cancelled or (self._outer is not None and self._outer.is_cancelled)

    def cancel(self) -> None:
        """End everything inside at once with `Cancelled`; returns without waiting for it."""
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
        # Never by token: a generator may be closed by another thread, whose context knows nothing of this scope.
        self._state = _State.LEFT
        if _SCOPE.get() is self:
            _SCOPE.set(current_scope())

    def _take_in(self, member: Cancellable) -> float | None:
        """Have ``cancel()`` end this member too; return the boot time of the deadline, None without one."""
        self._members[id(member)] = member
        return self._deadline

    def _let_go(self, member: Cancellable) -> None:
        """Forget a member that has ended."""
        self._members.pop(id(member), None)


def current_scope() -> CancelScope | None:
    """Return the innermost scope that is still open.

    A scope entered in a generator stays in the caller's context when another thread closes the
    generator: such a scope is skipped.
    """
    scope = _SCOPE.get()
    while scope is not None and scope._state is _State.LEFT:
        scope = scope._outer
    return scope
