"""The parts of one adapter that its calls share."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    import requests

    from resilient_requests.call import CancelToken, Observers, Origin
    from resilient_requests.retry._budget import OriginBudgets
    from resilient_requests.retry._policy import RetryPolicy

__all__ = ["Sender"]


class Sender(NamedTuple):
    """An adapter as its calls use it; immutable.

    ``send`` makes one attempt, as ``HTTPAdapter.send``. ``sleep`` waits before the next, in
    seconds, and ends with the call.
    """

    policy: RetryPolicy
    observers: Observers
    budgets: OriginBudgets
    send: Callable[..., requests.Response]
    sleep: Callable[[CancelToken, float], None]

    def withdraw(self, origin: Origin, cost: int, now: float) -> bool:
        """Take tokens for a retry at boot time ``now``; return False if there are too few."""
        budget = self.policy.budget
        if not cost or budget is None:
            return True
        return self.budgets.bucket(origin, budget, now).withdraw(cost, now)

    def deposit(self, origin: Origin, token: CancelToken) -> None:
        """Add the tokens of the budget that a successful call earns."""
        if (bucket := self.budgets.known(origin)) is not None:
            bucket.deposit(token.boot())
