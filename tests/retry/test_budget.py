"""A token bucket that keeps retries from multiplying an outage."""

from __future__ import annotations

import math
import pickle
from typing import TYPE_CHECKING, Any

import pytest
from fake_clock import in_threads
from hypothesis import given
from hypothesis import strategies as st

from resilient_requests import RetryBudget
from resilient_requests.retry._budget import TokenBucket

if TYPE_CHECKING:
    from collections.abc import Callable

amounts = st.floats(min_value=0, max_value=1e6, allow_nan=False)
times = st.floats(min_value=-1e9, max_value=1e9, allow_nan=False)
budgets = st.builds(
    lambda c, d, t: RetryBudget(capacity=c, deposit=d, trickle=t), amounts, amounts, amounts
)


def test_a_bucket_starts_full_and_is_emptied_token_by_token() -> None:
    """Ten retries in a row, and no eleventh; nothing is taken by one that is denied."""
    bucket = TokenBucket(RetryBudget(trickle=0), 0.0)

    assert [bucket.withdraw(1, 0.0) for _ in range(11)] == [True] * 10 + [False]
    assert bucket.tokens(0.0) == 0.0


def test_a_withdrawal_is_whole_or_not_at_all() -> None:
    """One token does not pay for a replay that costs two, and stays for one that costs one."""
    bucket = TokenBucket(RetryBudget(capacity=1), 0.0)

    assert (bucket.withdraw(2, 0.0), bucket.withdraw(1, 0.0)) == (False, True)


def test_a_cost_of_nothing_is_always_paid() -> None:
    """It is paid even without any capacity."""
    assert TokenBucket(RetryBudget(capacity=0), 0.0).withdraw(0, 0.0)


@pytest.mark.parametrize(
    ("deposits", "elapsed", "tokens"),
    [(1, 0.0, 0.3), (3, 0.0, 0.9), (0, 10.0, 1.0), (1, 10.0, 1.3), (100, 0.0, 10.0)],
)
def test_tokens_come_from_successes_and_time(deposits: int, elapsed: float, tokens: float) -> None:
    """There are never more tokens than the capacity."""
    bucket = TokenBucket(RetryBudget(), 0.0)
    bucket.withdraw(10, 0.0)
    for _ in range(deposits):
        bucket.deposit(elapsed)

    assert bucket.tokens(elapsed) == pytest.approx(tokens)


def test_a_leap_forward_fills_to_capacity_at_most() -> None:
    """A machine wakes up from an hour of sleep with one bucket, not with 36."""
    bucket = TokenBucket(RetryBudget(), 0.0)
    bucket.withdraw(10, 0.0)

    assert bucket.tokens(3600.0) == 10.0


def test_a_step_back_adds_nothing_and_does_not_stop_the_trickle() -> None:
    """Waiting until the clock has caught up would starve retries for as long."""
    bucket = TokenBucket(RetryBudget(), 1000.0)
    bucket.withdraw(10, 1000.0)

    assert [bucket.tokens(now) for now in (0.0, 10.0, 20.0)] == [
        0.0,
        pytest.approx(1.0),
        pytest.approx(2.0),
    ]


operations = st.one_of(
    st.tuples(st.just("withdraw"), st.sampled_from([0, 1, 2]), times),
    st.tuples(st.just("deposit"), st.just(0), times),
)


@given(budgets, times, st.lists(operations, max_size=50))
def test_tokens_stay_between_nothing_and_capacity(
    budget: RetryBudget, start: float, steps: list[tuple[str, int, float]]
) -> None:
    """The clock may go any way."""
    bucket = TokenBucket(budget, start)
    last = start
    for what, cost, now in steps:
        before = bucket.tokens(last)
        if what == "deposit":
            bucket.deposit(now)
        else:
            paid = bucket.withdraw(cost, now)
            assert not paid or now > last or before >= cost
        last = now
        assert 0.0 <= bucket.tokens(now) <= budget.capacity


@given(budgets, st.lists(times, min_size=1))
def test_a_clock_that_only_goes_back_adds_nothing(
    budget: RetryBudget, moments: list[float]
) -> None:
    """A clock that stands still adds nothing either."""
    moments.sort(reverse=True)
    bucket = TokenBucket(budget, moments[0])
    bucket.withdraw(budget.capacity, moments[0])

    assert [bucket.tokens(now) for now in moments] == [0.0] * len(moments)


def test_threads_share_exactly_what_there_is() -> None:
    """No token is spent twice."""
    bucket = TokenBucket(RetryBudget(capacity=500, trickle=0), 0.0)
    paid: list[bool] = []
    with in_threads(
        8, lambda _: paid.extend(bucket.withdraw(1, 0.0) for _ in range(100))
    ) as errors:
        pass

    assert errors == []
    assert paid.count(True) == 500


def simulate(rate: float, seconds: float, fails: Callable[[int, int], bool]) -> tuple[float, float]:
    """Attempts per call and the share of calls that failed, at most two retries each."""
    bucket = TokenBucket(RetryBudget(), 0.0)
    calls = int(rate * seconds)
    attempts = lost = 0
    for call in range(calls):
        now = call / rate
        for attempt in range(3):
            attempts += 1
            if not fails(call, attempt):
                bucket.deposit(now)
                break
            if attempt == 2 or not bucket.withdraw(1, now):
                lost += 1
                break
    return attempts / calls, lost / calls


@pytest.mark.parametrize("rate", [1.0, 5.0, 50.0])
def test_an_outage_is_hardly_amplified(rate: float) -> None:
    """A dead origin for 300 s sees at most a fifth more attempts than calls."""
    amplification, _ = simulate(rate, 300.0, lambda call, attempt: True)

    assert amplification <= 1.2


@pytest.mark.parametrize("rate", [1.0, 5.0, 50.0])
def test_random_loss_is_recovered(rate: float) -> None:
    """One attempt in five is lost, independently: at least 98 of 100 calls succeed."""
    _, lost = simulate(
        rate, 600.0, lambda call, attempt: (call * 7919 + attempt * 104729) % 1009 < 202
    )

    assert lost <= 0.02


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"capacity": -1}, ValueError),
        ({"capacity": math.inf}, ValueError),
        ({"capacity": "10"}, TypeError),
        ({"deposit": -0.1}, ValueError),
        ({"deposit": math.nan}, ValueError),
        ({"deposit": None}, TypeError),
        ({"trickle": -1}, ValueError),
        ({"trickle": False}, TypeError),
    ],
)
def test_a_wrong_setting_is_named(options: dict[str, Any], error: type[Exception]) -> None:
    """The error comes at construction."""
    with pytest.raises(error, match=next(iter(options))):
        RetryBudget(**options)


def test_budgets_are_values() -> None:
    """Sharing one shares figures, not tokens."""
    assert pickle.loads(pickle.dumps(RetryBudget(capacity=3))) == RetryBudget(capacity=3.0)
    with pytest.raises(AttributeError):
        RetryBudget().capacity = 3  # type: ignore[misc]
