"""The time for which an idle connection may be reused, in numbers."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_requests import KeepAlivePolicy
from resilient_requests.transport._keepalive import AdaptiveWindow, parse_hint, window_of

seconds = st.floats(min_value=0, max_value=1e6, allow_nan=False)
FLOOR = 0.5


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("timeout=5", 5.0),
        ("timeout=5, max=100", 5.0),
        ("max=100,timeout=5", 5.0),
        ("max=100; timeout=5", 5.0),
        ("TIMEOUT = 5", 5.0),
        ('timeout="5"', 5.0),
        ("timeout=2.5", 2.5),
        ("timeout=0", 0.0),
        ("timeout=5, timeout=9", 5.0),
        (None, None),
        ("", None),
        ("timeout", None),
        ("timeout=", None),
        ("timeout=five", None),
        ("timeout=-5", None),
        ("timeout=5s", None),
        ("timeout=1e9", None),
        ("timeout=inf", None),
        ("timeout=0x10", None),
        ("idle-timeout=5", None),
        ("max=5", None),
        ("5", None),
    ],
)
def test_a_hint_is_read_or_ignored(value: str | None, hint: float | None) -> None:
    """The server's meaning is unknown for any other value, and an invented window helps nobody."""
    assert parse_hint(value) == hint


@given(st.text())
def test_no_header_breaks_the_parser(value: str) -> None:
    """Headers come from outside."""
    hint = parse_hint(value)

    assert hint is None or hint >= 0


@given(st.integers(min_value=0, max_value=10**400))
def test_a_hint_of_any_length_gives_a_window(number: int) -> None:
    """A number that no float holds is still a number."""
    hint = parse_hint(f"timeout={number}")

    assert hint is not None
    assert 0 <= window_of(KeepAlivePolicy(), hint) <= 10.0


@pytest.mark.parametrize(
    ("hint", "window"),
    [
        (None, 10.0),
        (60.0, 10.0),
        (12.0, 10.0),
        (11.9, 9.9),
        (5.0, 3.0),
        (2.1, 0.1),
        (2.0, 0.0),
        (1.0, 0.0),
        (0.0, 0.0),
    ],
)
def test_a_hint_shortens_by_its_margin(hint: float | None, window: float) -> None:
    """The server closes at its figure; a request on its way must be there before."""
    assert window_of(KeepAlivePolicy(), hint) == pytest.approx(window)


@given(expiry=seconds, margin=seconds, hint=st.none() | seconds)
def test_a_hint_never_widens(expiry: float, margin: float, hint: float | None) -> None:
    """The server does not know about the memory of the path."""
    window = window_of(KeepAlivePolicy(expiry=expiry, hint_margin=margin), hint)

    assert 0 <= window <= expiry
    assert hint is None or window == 0 or window <= hint - margin


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"expiry": -1}, ValueError),
        ({"expiry": math.inf}, ValueError),
        ({"expiry": math.nan}, ValueError),
        ({"expiry": "10"}, TypeError),
        ({"expiry": True}, TypeError),
        ({"expiry": None}, TypeError),
        ({"max_age": 0}, ValueError),
        ({"max_age": -1.0}, ValueError),
        ({"max_age": "1"}, TypeError),
        ({"hint_margin": -0.1}, ValueError),
        ({"adaptive": 1}, TypeError),
    ],
)
def test_a_wrong_setting_is_named(options: dict[str, Any], error: type[Exception]) -> None:
    """The error comes at construction, not at the first call of a Sunday."""
    with pytest.raises(error, match=next(iter(options))):
        KeepAlivePolicy(**options)


def test_policies_are_values() -> None:
    """They may be shared, compared and kept in sets."""
    assert KeepAlivePolicy(expiry=0) == KeepAlivePolicy(expiry=0.0)
    assert len({KeepAlivePolicy(), KeepAlivePolicy(expiry=10)}) == 1
    with pytest.raises(AttributeError):
        KeepAlivePolicy().expiry = 5  # type: ignore[misc]


# -- the adaptive window


def test_the_window_starts_at_the_expiry() -> None:
    """Nothing learnt, nothing lost."""
    assert AdaptiveWindow(10.0).limit(0.0) == 10.0


@pytest.mark.parametrize(
    ("idle_for", "limit"),
    [(8.0, 4.0), (1.0, FLOOR), (0.2, FLOOR), (0.0, FLOOR), (30.0, 10.0), (20.0, 10.0)],
)
def test_a_stale_hit_narrows_the_window(idle_for: float, limit: float) -> None:
    """The window falls below the deadly age, but never below half a second nor above the expiry."""
    window = AdaptiveWindow(10.0)
    window.stale(idle_for, 100.0)

    assert window.limit(100.0) == limit


@pytest.mark.parametrize(
    ("good", "limit"),
    [(2.0, 4.0), (5.0, 5.0), (7.2, 7.2), (7.3, 7.2), (7.9, 7.2), (8.0, 4.0), (9.0, 4.0)],
)
def test_an_age_that_was_alive_bounds_the_lesson(good: float, limit: float) -> None:
    """An age that is close to the deadly one, or beyond it, does not: the path has changed."""
    window = AdaptiveWindow(10.0)
    window.good(good)
    window.good(1.0)
    window.stale(8.0, 100.0)

    assert window.limit(100.0) == limit


def test_the_window_doubles_each_quiet_minute() -> None:
    """Paths change: a lesson is not for ever, but it holds for a minute."""
    window = AdaptiveWindow(10.0)
    window.stale(2.0, 100.0)

    assert [window.limit(100.0 + seconds) for seconds in (59.9, 60.0, 119.9)] == [1.0, 2.0, 2.0]
    assert [window.limit(100.0 + minutes * 60) for minutes in (0, 1, 2, 3, 4, 1000)] == [
        1.0,
        2.0,
        4.0,
        8.0,
        10.0,
        10.0,
    ]


def test_a_further_hit_starts_the_minute_anew() -> None:
    """It is a minute without a stale hit."""
    window = AdaptiveWindow(10.0)
    window.stale(4.0, 0.0)
    window.stale(3.9, 59.0)

    assert [window.limit(now) for now in (60.0, 118.9, 119.0)] == [1.95, 1.95, 3.9]


def test_an_older_victim_does_not_widen_the_window() -> None:
    """Threads report in any order."""
    window = AdaptiveWindow(10.0)
    window.stale(2.0, 0.0)
    window.stale(9.0, 0.0)

    assert window.limit(0.0) == 1.0


def test_a_clock_that_steps_back_does_not_narrow_further() -> None:
    """The clock of deadlines never does, but a fake or a broken one may."""
    window = AdaptiveWindow(10.0)
    window.stale(4.0, 1000.0)

    assert window.limit(0.0) == 2.0


def test_an_expiry_below_the_floor_stays() -> None:
    """The floor must not widen the user's own window."""
    window = AdaptiveWindow(0.2)
    window.stale(0.1, 0.0)

    assert window.limit(0.0) == 0.2


@given(
    expiry=seconds,
    hits=st.lists(
        st.tuples(seconds, st.floats(min_value=-1e3, max_value=1e9, allow_nan=False)), max_size=20
    ),
    later=st.floats(min_value=-1e3, max_value=1e12, allow_nan=False),
)
def test_the_window_stays_in_its_bounds(
    expiry: float, hits: list[tuple[float, float]], later: float
) -> None:
    """That holds for any history, at any moment, and after any time."""
    window = AdaptiveWindow(expiry)
    for idle_for, now in hits:
        window.stale(idle_for, now)
        assert window.limit(now) <= max(idle_for / 2, FLOOR)

    assert min(FLOOR, expiry) <= window.limit(later) <= expiry
