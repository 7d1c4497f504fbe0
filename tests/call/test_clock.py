"""Ages that suspend, VM pause and clock steps cannot fool."""

from __future__ import annotations

import runpy
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_requests.call import Instant, _clock, now

finite = st.floats(min_value=-1e12, max_value=1e12, allow_nan=False)
instants = st.builds(Instant, finite, finite, finite)
HOUR = 3600.0


@pytest.mark.parametrize(
    ("monotonic", "boot", "wall", "age"),
    [
        (15.0, 15.0, 15.0, 15.0),
        (0.0, HOUR, HOUR, HOUR),
        (0.0, 0.0, HOUR, HOUR),
        (15.0, 15.0, 15.0 - HOUR, 15.0),
        (15.0, 15.0, 15.0 + HOUR, 15.0 + HOUR),
        (0.0, 0.0, -HOUR, 0.0),
        (0.0, 0.0, 0.0, 0.0),
    ],
    ids=["plain", "suspend", "vm-pause", "set-back", "set-forward", "set-back-at-once", "no-time"],
)
def test_an_age_is_the_largest_that_any_clock_counted(
    monotonic: float, boot: float, wall: float, age: float
) -> None:
    """Each of the three is fooled by something that another sees."""
    since = Instant(100.0, 200.0, 1_700_000_000.0)

    assert since.age(Instant(100.0 + monotonic, 200.0 + boot, 1_700_000_000.0 + wall)) == age


@given(instants, instants)
def test_an_age_is_never_negative_and_never_less_than_one_clocks(
    since: Instant, later: Instant
) -> None:
    """An age that is too high costs one dial; an age that is too low costs a call."""
    age = since.age(later)

    assert age >= 0
    assert all(age >= after - before for before, after in zip(since, later, strict=True))


def test_now_reads_the_three_clocks() -> None:
    """The fields have the order of the clocks."""
    before = (time.monotonic(), time.time())
    instant = now()
    after = (time.monotonic(), time.time())

    assert before[0] <= instant.monotonic <= after[0]
    assert before[1] <= instant.wall <= after[1]


@pytest.mark.skipif(
    not hasattr(time, "CLOCK_BOOTTIME"), reason="the platform has no boot-time clock"
)
def test_boot_time_counts_suspend() -> None:
    """It is the one that Linux lets go on."""
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    boot = now().boot

    assert before <= boot <= time.clock_gettime(time.CLOCK_BOOTTIME)


def test_without_a_boot_clock_the_monotonic_one_stands_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such platforms are macOS and Windows."""
    monkeypatch.delattr(time, "CLOCK_BOOTTIME", raising=False)
    monkeypatch.setattr(time, "monotonic", lambda: 42.0)

    assert runpy.run_path(_clock.__file__)["boot"]() == 42.0
