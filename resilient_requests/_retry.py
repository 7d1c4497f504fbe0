"""RetryPolicy, and the tenacity loop that is entered after a first failure."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import tenacity
import tenacity.stop
import tenacity.wait
import urllib3

from resilient_requests import _checks
from resilient_requests._budget import RetryBudget

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FullJitter", "RetryPolicy", "from_urllib3", "replay", "retry_after"]

_T = TypeVar("_T")
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

    ``max_retries``: at most so many retries per call; 0: none. ``wait``: any tenacity wait strategy (None: full
    jitter, tops 0.15 to 2 s). ``retry_response_timeout``: repeat an idempotent request once, with twice the limit,
    when no response came in time; off, because the server may be at work on it. ``statuses``: HTTP statuses
    after which idempotent requests are repeated (429 and 503: all requests), after ``Retry-After`` where given,
    at most 60 s. ``budget``: what retries may cost per origin (None: no limit). ``allowed_methods``: the methods
    that count as idempotent (None: those of RFC 9110, and whatever carries an ``Idempotency-Key``).
    ``raise_on_status``: raise ``requests.RetryError`` where retries on ``statuses`` are used up, instead of
    returning the last response. ``status_methods``: repeat after a status these methods only (None: the rule of
    ``statuses``). ``retry_after_statuses``: statuses that are repeated where a ``Retry-After`` came with them.
    ``respect_retry_after``: False lets ``wait`` alone decide. The last six are what a urllib3 ``Retry`` brings along.

    Raises TypeError or ValueError naming the parameter.
    """

    max_retries: int = 2
    wait: Any = None
    retry_response_timeout: bool = False
    statuses: frozenset[int] = frozenset()
    budget: RetryBudget | None = RetryBudget()  # noqa: RUF009  # frozen
    allowed_methods: frozenset[str] | None = None
    raise_on_status: bool = False
    status_methods: frozenset[str] | None = None
    retry_after_statuses: frozenset[int] = frozenset()
    respect_retry_after: bool = True

    def __post_init__(self) -> None:
        _checks.count("max_retries", self.max_retries)
        if self.wait is not None and (not callable(self.wait) or isinstance(self.wait, _NO_WAITS)):
            raise TypeError(f"wait must be a tenacity wait strategy or None, not {self.wait!r}")
        _checks.flag("retry_response_timeout", self.retry_response_timeout)
        _checks.instance("budget", self.budget, RetryBudget, optional=True)
        _checks.flag("raise_on_status", self.raise_on_status)
        _checks.flag("respect_retry_after", self.respect_retry_after)
        # A set or a list is what people write.
        for name in ("statuses", "retry_after_statuses"):
            object.__setattr__(self, name, _checks.statuses(name, getattr(self, name)))
        for name in ("allowed_methods", "status_methods"):
            if (methods := getattr(self, name)) is not None:
                upper = frozenset(method.upper() for method in _checks.names(name, methods))
                object.__setattr__(self, name, upper)

    def repeats(self, method: str, status: int, *, retry_after: bool) -> bool:
        """Return whether a response with this status is to be followed by another attempt."""
        if self.status_methods is not None and method not in self.status_methods:
            return False
        return status in self.statuses or (retry_after and status in self.retry_after_statuses)


def from_urllib3(retry: urllib3.Retry) -> RetryPolicy:
    """Return the policy that does for a call what the given urllib3 Retry was meant to do.

    Count, statuses, backoff, methods, ``Retry-After`` and ``raise_on_status`` carry over; ``redirect`` does not
    (requests follows redirects itself), and of the counts by kind only whether they are 0.
    """
    counts = [retry.total] if retry.total is not None else [retry.connect, retry.read, retry.status, retry.other]
    most = max((int(each) for each in counts if each is not None), default=0)
    methods: object = retry.allowed_methods
    allowed: frozenset[str] | None = None  # urllib3's default says nothing that RFC 9110 does not
    if methods is None or methods is False:
        allowed = _EVERY
    elif methods != urllib3.Retry.DEFAULT_ALLOWED_METHODS:
        allowed = _checks.names("allowed_methods", methods)
    has_all = methods is None or methods is False
    repeated = _EVERY if has_all else _checks.names("allowed_methods", methods)
    if retry.status is not None and not retry.status:
        repeated = frozenset()  # status=0: no status is a reason
    if retry.read is not None and not retry.read:
        allowed = frozenset()  # read=0 or False: nothing that may have been received is sent again
    return RetryPolicy(
        max_retries=most,
        wait=_Backoff(retry),
        statuses=frozenset(retry.status_forcelist or ()),
        allowed_methods=allowed,
        raise_on_status=bool(retry.raise_on_status),
        status_methods=repeated,
        retry_after_statuses=_ON_REQUEST if retry.respect_retry_after_header else frozenset(),
        respect_retry_after=bool(retry.respect_retry_after_header),
    )


_ON_REQUEST = urllib3.Retry.RETRY_AFTER_STATUS_CODES
_EVERY = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "QUERY", "POST", "PATCH"})


class _Backoff(tenacity.wait.wait_base):
    """urllib3's backoff: nothing before the first retry, then ``factor * 2 ** (n - 1)`` seconds."""

    def __init__(self, retry: urllib3.Retry) -> None:
        self._factor = retry.backoff_factor
        self._most = retry.backoff_max
        self._jitter = retry.backoff_jitter

    def __call__(self, retry_state: tenacity.RetryCallState) -> float:
        n = retry_state.attempt_number
        if n <= 1:
            return 0.0
        seconds = self._factor * 2.0 ** min(n - 1, 60) + random.random() * self._jitter
        return float(max(0.0, min(seconds, self._most)))


def retry_after(value: str | None) -> float | None:
    """Return the seconds of a ``Retry-After`` header (RFC 9110 10.2.3), at most 60; None where there is none."""
    if not value:
        return None
    try:
        return min(max(float(urllib3.Retry().parse_retry_after(value)), 0.0), _LONGEST_RETRY_AFTER)
    except urllib3.exceptions.InvalidHeader:
        return None


def replay(
    first: Callable[[], _T],
    attempt: Callable[[], _T],
    *,
    decide: Callable[[tenacity.RetryCallState], bool],
    wait: Callable[[tenacity.RetryCallState], float],
    sleep: Callable[[float], None],
) -> _T:
    """Repeat ``attempt`` as long as ``decide`` says so; return its last result, or raise its last error as it is.

    ``first`` stands for the attempt that was made already, so that tenacity's own count is true. Built per call:
    tenacity keeps its statistics on the object, in thread-local storage that nested calls reset.
    """
    upcoming = [attempt, first]

    def once() -> _T:
        return (upcoming.pop() if len(upcoming) > 1 else attempt)()

    loop = tenacity.Retrying(stop=tenacity.stop_never, retry=decide, wait=wait, sleep=sleep, reraise=True)
    return loop(once)
