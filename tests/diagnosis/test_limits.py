"""The first limit to end a call: one of its own, its deadline or the kernel's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from resilient_requests import TCPView
from resilient_requests.call import Attempt, CancelToken, Limits, Phase
from resilient_requests.diagnosis._limits import first_limit

NOW = 1000.0
LIMITS = Limits(connect=10.0, write=30.0, response=600.0, idle=300.0)
SILENT = TCPView(
    state="ESTABLISHED",
    unacknowledged=0,
    retransmits=0,
    unsent=0,
    window=65536,
    probes=0,
    last_sent=20.0,
    last_received=20.0,
    last_acknowledged=20.0,
    rtt=0.02,
    keepalive=(15, 5, 3),
    user_timeout=30.0,
)
LOST = replace(SILENT, unacknowledged=1, retransmits=1)


def attempt(phase: Phase, total: float | None = None, limits: Limits = LIMITS) -> Attempt:
    """An attempt that has dialled, or sent its request, 5 s ago."""
    token = CancelToken(total=total)
    token.boot = lambda: NOW
    if total is not None:
        token.deadline = NOW + total
    made = Attempt(token, 1, limits)
    made.phase, made.dialled_at, made.sent_at = phase, NOW - 5.0, NOW - 5.0
    return made


@pytest.mark.parametrize(
    ("phase", "tcp", "first"),
    [
        (Phase.CONNECT, None, ("connect", 5.0)),
        (Phase.HANDSHAKE, SILENT, ("connect", 5.0)),
        (Phase.SEND, SILENT, ("write", 10.0)),
        (Phase.WAIT, SILENT, ("response", 595.0)),
        (Phase.HEAD, SILENT, ("response", 595.0)),
        (Phase.START, None, (None, None)),
        # Data that nobody acknowledges: the kernel gives up 30 s after the last that moved.
        (Phase.WAIT, LOST, ("user_timeout", 10.0)),
        # Together with a limit of ours, which is exact.
        (Phase.SEND, LOST, ("write", 10.0)),
        (Phase.SEND, replace(LOST, user_timeout=29.4), ("user_timeout", 9.4)),
        (Phase.WAIT, replace(LOST, user_timeout=None), ("response", 595.0)),
        (Phase.WAIT, replace(LOST, retransmits=0), ("response", 595.0)),
        # A shut window, though its probes are answered.
        (Phase.WAIT, replace(SILENT, unsent=9, window=0), ("user_timeout", 10.0)),
        (Phase.WAIT, replace(SILENT, unsent=9), ("response", 595.0)),
        # Keep-alive probes: the user timeout stands in place of their count.
        (Phase.WAIT, replace(SILENT, probes=1), ("user_timeout", 10.0)),
        (Phase.WAIT, replace(SILENT, probes=1, user_timeout=None), ("keepalive", 10.0)),
    ],
)
def test_limit_that_comes_first_is_named(
    phase: Phase, tcp: TCPView | None, first: tuple[str | None, float | None]
) -> None:
    """The silence is 20 s, the phase 5 s old."""
    name, left = first_limit(attempt(phase), phase, 20.0, tcp, is_held=False)

    assert name == first[0]
    assert left == pytest.approx(first[1])


@pytest.mark.parametrize(
    ("total", "first"), [(3.0, ("total", 3.0)), (7.0, ("connect", 5.0)), (-1.0, ("total", 0.0))]
)
def test_deadline_counts_among_the_limits(total: float, first: tuple[str, float]) -> None:
    """A deadline that has passed ends the call now, and not in the past."""
    made = attempt(Phase.CONNECT, total)

    assert first_limit(made, Phase.CONNECT, None, None, is_held=False) == first


def test_limit_of_an_unknown_silence_has_no_time() -> None:
    """If the system does not report the time without progress, only the name is known."""
    made = attempt(Phase.SEND)

    assert first_limit(made, Phase.SEND, None, None, is_held=False) == ("write", None)


@pytest.mark.parametrize("phase", [Phase.CONNECT, Phase.SEND, Phase.WAIT])
def test_phase_without_a_limit_ends_by_none(phase: Phase) -> None:
    """None is no limit."""
    made = attempt(phase, limits=Limits(connect=None, write=None, response=None, idle=None))

    assert first_limit(made, phase, 1.0, SILENT, is_held=False) == (None, None)


def test_held_stream_has_only_a_deadline_and_the_kernels_limit() -> None:
    """Time of the consumer is no silence."""
    made: Any = attempt(Phase.BODY, 50.0)

    assert first_limit(made, Phase.BODY, 20.0, SILENT, is_held=True) == ("total", 50.0)
    assert first_limit(made, Phase.BODY, 20.0, LOST, is_held=True) == ("user_timeout", 10.0)
