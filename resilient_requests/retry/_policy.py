"""RetryPolicy: how often, how long apart and at what cost a request is sent again."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, SupportsFloat

import tenacity
import tenacity.stop
import tenacity.wait
import urllib3

from resilient_requests import _checks
from resilient_requests.retry._budget import RetryBudget

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

__all__ = ["FullJitter", "RetryPolicy", "pause", "retry_after"]

_LONGEST_RETRY_AFTER = 60.0
# Callable too, and easily taken for a wait: a strategy's class, and tenacity's other kinds of strategies.
_NO_WAITS = (type, tenacity.stop.stop_base, tenacity.retry_base)


class FullJitter(tenacity.wait.wait_base):
    """Wait ``random() * top`` seconds; tops 0.15, 0.30, 0.60, 1.20, then 2.0. Callers then do not come back in step."""

    def __init__(self, random: Callable[[], float] = random.random) -> None:
        self._random = random

    def __call__(self, retry_state: tenacity.RetryCallState) -> float:
        return self._random() * min(0.15 * 2.0 ** min(retry_state.attempt_number - 1, 10), 2.0)


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """When a request is sent again, strictly before its response; immutable, may be shared.

    ``max_retries``: at most so many retries per call; 0: none. ``wait``: any tenacity wait strategy
    (None: full jitter, tops 0.15 to 2 s). ``retry_response_timeout``: repeat an idempotent request
    once, with twice the limit, when no response came in time; off, because the server may be at work
    on it. ``statuses``: HTTP statuses after which idempotent requests are repeated (429 and 503: all
    requests), after ``Retry-After`` where given, at most 60 s; the last response is returned when the
    retries are used up. ``budget``: what retries may cost per origin (None: no limit).

    Raises TypeError or ValueError naming the parameter.
    """

    max_retries: int = 2
    wait: Any = None
    retry_response_timeout: bool = False
    statuses: Collection[int] = frozenset()
    budget: RetryBudget | None = RetryBudget()  # noqa: RUF009  # frozen

    def __post_init__(self) -> None:
        _checks.count("max_retries", self.max_retries)
        if self.wait is not None and (not callable(self.wait) or isinstance(self.wait, _NO_WAITS)):
            raise TypeError(f"wait must be a tenacity wait strategy or None, not {self.wait!r}")
        _checks.flag("retry_response_timeout", self.retry_response_timeout)
        _checks.instance("budget", self.budget, RetryBudget, optional=True)
        # A set or a list is what people write.
        object.__setattr__(self, "statuses", _checks.statuses("statuses", self.statuses))


def retry_after(value: str | None) -> float:
    """Return the seconds of a ``Retry-After`` header (RFC 9110 10.2.3), at most 60; 0 without one.

    A date that is in no calendar is none.
    """
    text = (value or "").strip()
    try:
        # urllib3 would convert the digits with int(), which refuses thousands of them.
        is_number = text.isascii() and text.isdigit()
        seconds = float(text if is_number else urllib3.Retry().parse_retry_after(text))
    except (urllib3.exceptions.InvalidHeader, ValueError, OverflowError):
        return 0.0
    return min(seconds, _LONGEST_RETRY_AFTER)


def pause(policy: RetryPolicy, state: tenacity.RetryCallState) -> float:
    """Return the seconds that the policy's strategy wants to wait; below 0 is 0.

    Raises what the strategy raises, and TypeError where it returns no number: from the attempt's own error.
    """
    try:
        given = (policy.wait or FullJitter())(state)
        if not isinstance(given, SupportsFloat):
            raise TypeError(f"wait must return seconds, not {type(given).__name__}")  # noqa: TRY301
        return max(0.0, float(given))  # in this order, NaN is 0 too
    except Exception as error:
        failure = state.outcome.exception() if state.outcome is not None else None
        error.__cause__ = error.__cause__ or failure
        raise
