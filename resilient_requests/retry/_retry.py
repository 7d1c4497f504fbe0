"""RetryPolicy, and the tenacity loop that is entered after a first failure."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, SupportsFloat, TypeVar

import tenacity
import tenacity.stop
import tenacity.wait
import urllib3
from urllib3.util.retry import RequestHistory

from resilient_requests import _checks
from resilient_requests.retry._budget import RetryBudget
from resilient_requests.retry._failures import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["FullJitter", "RetryPolicy", "from_urllib3", "pause", "replay", "retry_after"]

_T = TypeVar("_T")
_LONGEST_RETRY_AFTER = 60.0
# Servers say with these that they did nothing: any request may be repeated.
_NOT_HANDLED = frozenset({429, 503})
_EVERY = "*"
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
    that count as idempotent, ``"*"`` among them for all (None: those of RFC 9110, and whatever carries an
    ``Idempotency-Key``).
    ``raise_on_status``: raise ``requests.RetryError`` where retries on ``statuses`` have ended without success, instead
    of returning the last response. ``respect_retry_after``: False lets ``wait`` alone decide. The last three are what
    a urllib3 ``Retry`` brings along.

    Raises TypeError or ValueError naming the parameter.
    """

    max_retries: int = 2
    wait: Any = None
    retry_response_timeout: bool = False
    statuses: frozenset[int] = frozenset()
    budget: RetryBudget | None = RetryBudget()  # noqa: RUF009  # frozen
    allowed_methods: frozenset[str] | None = None
    raise_on_status: bool = False
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
        object.__setattr__(self, "statuses", _checks.statuses("statuses", self.statuses))
        if (methods := self.allowed_methods) is not None:
            upper = frozenset(
                method.upper() for method in _checks.names("allowed_methods", methods)
            )
            object.__setattr__(self, "allowed_methods", upper)

    def covers(self, method: str) -> bool | None:
        """Return whether a method counts as idempotent; None where the policy says nothing about methods."""
        allowed = self.allowed_methods
        return None if allowed is None else method in allowed or _EVERY in allowed

    def repeats(self, method: str, status: int, headers: Mapping[str, str]) -> bool:  # noqa: ARG002  # see _Translated
        """Return whether a response is to be followed by another attempt, if its request may be repeated."""
        return status in self.statuses

    def repeats_any(self, status: int | None) -> bool:
        """Return whether requests may be repeated after a status though they are not idempotent."""
        return status in _NOT_HANDLED and self.allowed_methods is None

    def allows(self, failure: Failure, repeated: Sequence[Failure]) -> bool:  # noqa: ARG002  # see _Translated
        """Return whether a failure may be repeated after those that were; ``max_retries`` bounds it all the same."""
        return True


@dataclass(frozen=True, kw_only=True)
class _Translated(RetryPolicy):
    """The policy of a urllib3 Retry, which is asked itself: a subclass may have rules of its own."""

    retry: urllib3.Retry

    def repeats(self, method: str, status: int, headers: Mapping[str, str]) -> bool:
        return self.retry.is_retry(method, status, bool(headers.get("Retry-After")))

    def repeats_any(self, status: int | None) -> bool:  # noqa: ARG002  # it has looked at the method already
        return True

    def allows(self, failure: Failure, repeated: Sequence[Failure]) -> bool:
        kind = _KINDS.get(failure, "read")
        most: int | None = getattr(self.retry, kind)
        return most is None or sum(_KINDS.get(each, "read") == kind for each in repeated) < most


# As urllib3 counts, but that a handshake counts as a dial: nothing of the request was sent.
_KINDS = {
    Failure.NO_CONNECTION: "connect",
    Failure.HANDSHAKE_CUT: "connect",
    Failure.PROXY_BUSY: "other",
    Failure.POOL_CLOSED: "other",
    Failure.STATUS: "status",
}


def from_urllib3(retry: urllib3.Retry) -> RetryPolicy:
    """Return the policy that does for a call what the given urllib3 Retry was meant to do.

    Counts, statuses, backoff, methods, ``Retry-After`` and ``raise_on_status`` carry over; ``redirect`` does not
    (requests follows redirects itself). Of what a subclass overrides, ``is_retry`` and ``get_backoff_time`` are asked,
    and nothing else.
    """
    kinds = [
        each for each in (retry.connect, retry.read, retry.status, retry.other) if each is not None
    ]
    methods: object = retry.allowed_methods
    allowed: frozenset[str] | None = None  # urllib3's default says nothing that RFC 9110 does not
    if methods is None or methods is False:
        allowed = frozenset({_EVERY})
    elif methods != urllib3.Retry.DEFAULT_ALLOWED_METHODS:
        allowed = _checks.names("allowed_methods", methods)
    return _Translated(
        max_retries=int(sum(kinds) if retry.total is None else retry.total),
        wait=_Backoff(retry),
        statuses=frozenset(retry.status_forcelist or ()),
        allowed_methods=allowed,
        raise_on_status=bool(retry.raise_on_status),
        respect_retry_after=bool(retry.respect_retry_after_header),
        retry=retry,
    )


class _Backoff(tenacity.wait.wait_base):
    """A urllib3 Retry's own: as stock, nothing before the first retry, then ``factor * 2 ** (n - 1)`` seconds."""

    def __init__(self, retry: urllib3.Retry) -> None:
        self._retry = retry

    def __call__(self, retry_state: tenacity.RetryCallState) -> float:
        outcome = retry_state.outcome
        status = None if outcome is None or outcome.failed else outcome.result().status_code
        entry = RequestHistory(None, None, None, status, None)
        # As a rule it is only asked how many there are; two to the power of many more would be no float.
        history = (entry,) * min(retry_state.attempt_number, 60)
        return float(self._retry.new(history=history).get_backoff_time())


def retry_after(value: str | None) -> float | None:
    """Return the seconds of a ``Retry-After`` header (RFC 9110 10.2.3), 0 to 60; None without one.

    A date that is in no calendar is none.
    """
    text = (value or "").strip()
    try:
        # urllib3 would convert the digits with int(), which refuses thousands of them.
        is_number = text.isascii() and text.isdigit()
        seconds = float(text if is_number else urllib3.Retry().parse_retry_after(text))
    except (urllib3.exceptions.InvalidHeader, ValueError, OverflowError):
        return None
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
        error.__cause__ = error.__cause__ or (
            state.outcome.exception() if state.outcome is not None else None
        )
        raise


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

    loop = tenacity.Retrying(
        stop=tenacity.stop_never, retry=decide, wait=wait, sleep=sleep, reraise=True
    )
    try:
        return loop(once)
    finally:
        vars(
            loop
        ).clear()  # it refers to itself, and to all of this, until the garbage collector comes by
