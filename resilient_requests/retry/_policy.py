"""RetryPolicy: the number of retries, the waits between them, and their cost."""

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

# Seconds. A server may ask for hours, and a thread must not sleep that long.
_LONGEST_RETRY_AFTER = 60.0
# Callables that are easily taken for a wait: the class of a strategy, and tenacity's strategies of
# other kinds.
_NO_WAITS = (type, tenacity.stop.stop_base, tenacity.retry_base)


class FullJitter(tenacity.wait.wait_base):
    """Wait ``random() * top`` seconds; tops 0.15, 0.30, 0.60, 1.20, then 2.0.

    The random factor spreads callers that failed at the same moment.
    """

    def __init__(self, random: Callable[[], float] = random.random) -> None:
        self._random = random

    def __call__(self, retry_state: tenacity.RetryCallState) -> float:
        # The exponent is bounded, because 2.0 ** 1024 overflows.
        return self._random() * min(0.15 * 2.0 ** min(retry_state.attempt_number - 1, 10), 2.0)


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """Rules for sending a request again before its response; immutable, safe to share.

    ``max_retries`` is the most retries per call; 0 is none. ``wait`` is any tenacity wait strategy;
    None is full jitter with tops from 0.15 to 2 s. ``retry_response_timeout`` repeats an idempotent
    request once, with twice the limit, if no response came in time; it is off, because the server
    may be at work on the request. ``statuses`` are HTTP statuses after which idempotent requests
    are repeated (429 and 503: all requests). The wait is the strategy's, or that of ``Retry-After``
    (at most 60 s) if it is longer. With the retries used up, the last response is returned.
    ``budget`` bounds the cost of retries per origin; None is no limit.

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
        # Frozen here, since callers write a set or a list.
        object.__setattr__(self, "statuses", _checks.statuses("statuses", self.statuses))


def retry_after(value: str | None) -> float:
    """Return the seconds of a ``Retry-After`` header (RFC 9110 10.2.3), at most 60; 0 without one.

    A malformed value, or a date that does not exist, counts as none.
    """
    text = (value or "").strip()
    try:
        # urllib3 would use int(), which refuses a number of thousands of digits.
        is_number = text.isascii() and text.isdigit()
        seconds = float(text if is_number else urllib3.Retry().parse_retry_after(text))
    except (urllib3.exceptions.InvalidHeader, ValueError, OverflowError):
        return 0.0
    return min(seconds, _LONGEST_RETRY_AFTER)


def pause(policy: RetryPolicy, state: tenacity.RetryCallState) -> float:
    """Return the seconds that the policy's strategy asks for, at least 0.

    Raises the strategy's own error, and TypeError if it returns no number. The attempt's error
    becomes the cause of both.
    """
    try:
        given = (policy.wait or FullJitter())(state)
        if not isinstance(given, SupportsFloat):
            raise TypeError(f"wait must return seconds, not {type(given).__name__}")  # noqa: TRY301
        return max(0.0, float(given))  # in this order, NaN becomes 0
    except Exception as error:
        failure = state.outcome.exception() if state.outcome is not None else None
        error.__cause__ = error.__cause__ or failure
        raise
