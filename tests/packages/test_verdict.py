"""The verdict itself: a comparison that cannot find anything worse would prove nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from packages.faults import HUNG, OK, WRONG, Fault, Outcome
from packages.verdict import NOISE, is_better, worse

GOOD = Outcome(result=OK, seconds=0.1, requests=1, applied=1)
LOST = Outcome(
    result="ConnectionError", seconds=0.1, applied=1, parents=("ConnectionError", "OSError")
)
IDLE = replace(LOST, result="StreamIdle", parents=("StreamIdle", "ConnectionError", "OSError"))


@pytest.mark.parametrize(
    ("plain", "ours", "found"),
    [
        (GOOD, GOOD, 0),
        (GOOD, LOST, 1),
        (LOST, GOOD, 0),
        (LOST, replace(LOST, result=HUNG), 1),
        (replace(LOST, result=HUNG), LOST, 0),
        (replace(LOST, result=HUNG), replace(LOST, result=WRONG), 1),
        (LOST, IDLE, 0),
        (IDLE, LOST, 1),
        (GOOD, replace(GOOD, applied=2), 1),
        (replace(GOOD, applied=2), replace(GOOD, applied=2), 0),
        (replace(GOOD, applied=0), GOOD, 0),
        (GOOD, replace(GOOD, seconds=GOOD.seconds + NOISE), 0),
        (GOOD, replace(GOOD, seconds=GOOD.seconds + NOISE + 0.01), 1),
        (LOST, replace(GOOD, seconds=9.0), 0),
    ],
)
def test_a_verdict_names_what_is_worse(plain: Outcome, ours: Outcome, found: int) -> None:
    """Outcome, class of the error, applications and time, each on its own."""
    assert len(list(worse(Fault.STALL, plain, ours))) == found


def test_a_verdict_leaves_rule_b_out() -> None:
    """Its price is that a server which acts and resets at once may act twice."""
    twice = replace(GOOD, applied=2)

    assert list(worse(Fault.ACTED_REUSED, GOOD, twice)) == []
    assert len(list(worse(Fault.ACTED, GOOD, twice))) == 1


def test_a_verdict_does_not_judge_the_luck_of_a_shared_connection() -> None:
    """After a fork each of two processes may get the other's answer, an error, or nothing."""
    mixed = replace(GOOD, result=WRONG)

    assert list(worse(Fault.FORK, LOST, mixed)) == []
    assert len(list(worse(Fault.FORK, GOOD, mixed))) == 1
    assert len(list(worse(Fault.STALL, LOST, mixed))) == 1


@pytest.mark.parametrize(
    ("plain", "ours", "is_so"),
    [
        (LOST, GOOD, True),
        (GOOD, LOST, False),
        (GOOD, GOOD, False),
        (replace(LOST, result=HUNG), LOST, True),
        (replace(GOOD, seconds=5.0), GOOD, True),
        (replace(GOOD, applied=2), GOOD, True),
    ],
)
def test_a_verdict_tells_where_ours_is_better(plain: Outcome, ours: Outcome, is_so: bool) -> None:
    """The table prints these in bold."""
    assert is_better(plain, ours) is is_so
