"""A server that ignores keys acts no more often than for plain requests, but by row 8."""

from __future__ import annotations

import duplicates
import pytest
import schedules
from fake_clock import mounted
from schedules import Ask, Idle, Schedule, Violation

from resilient_requests import RetryPolicy

COUNT, PARTS = 120, 2


@pytest.mark.parametrize(
    ("steps", "again"),
    [
        pytest.param((Ask("POST", ("reset",)),), {}, id="reset on a fresh connection"),
        pytest.param((Ask("GET"), Ask("POST", ("late",))), {}, id="reset late on a reused one"),
        pytest.param((Ask("GET"), Ask("POST", ("head cut",))), {}, id="head cut on a reused one"),
        pytest.param((Ask("GET"), Idle("reset"), Ask("POST")), {}, id="an idle one that died"),
        pytest.param((Ask("GET"), Ask("POST", ("reset",))), {"POST: b": 1}, id="row 8"),
        pytest.param((Ask("stream POST", ("reset",)),), {"stream POST: c": 1}, id="by its key"),
    ],
)
def test_a_duplicate_is_counted_by_its_rule(
    steps: tuple[schedules.Step, ...], again: dict[str, int]
) -> None:
    """Only a death at once, of a reused connection, makes the server act on a POST twice."""
    found = duplicates.check(Schedule(steps, keys="streams"))

    assert {name: each for name, each in found.items() if name[-2:] in (" b", " c")} == again


@pytest.mark.parametrize("fate", ["reset", "head cut", "body cut"])
def test_a_duplicate_by_no_rule_is_a_violation(fate: schedules.Fate) -> None:
    """Every POST is declared safe here, which the default adapter does not do."""
    schedule = Schedule((Ask("POST", (fate,)),))

    with pytest.raises(Violation, match=r"call 0, .* done again after"):
        duplicates.check(schedule, lambda clock: mounted(clock, idempotency_keys=True))


def test_a_repeated_silence_is_a_violation() -> None:
    """A server that is silent may still be at work."""
    schedule = Schedule((Ask("POST", ("silent",)),))
    policy = RetryPolicy(retry_response_timeout=True)

    with pytest.raises(Violation, match=r"call 0, .* done again after"):
        duplicates.check(
            schedule, lambda clock: mounted(clock, idempotency_keys=True, max_retries=policy)
        )


@pytest.mark.slow
@pytest.mark.timeout(0)  # each wait within is bounded
@pytest.mark.parametrize("part", range(PARTS))
def test_no_schedule_makes_a_server_act_beyond_the_rules(part: int) -> None:
    """The shortest schedule that does is printed."""
    duplicates.campaign(COUNT // PARTS, part)
