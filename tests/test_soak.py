"""The soak: what holds for one call must hold for thousands at once, among faults that nobody has chosen."""

from __future__ import annotations

import os

import pytest
import soak


@pytest.mark.slow
@pytest.mark.timeout(0)  # the length is chosen by whoever runs it; each wait within is bounded
def test_random_faults_bring_no_wrong_answer_and_leave_nothing_behind() -> None:
    """Every body is what was asked for, nothing is applied more often than the rules permit, nothing is left."""
    seconds = float(os.environ.get("SOAK_SECONDS", "12"))
    figures = soak.campaign(seconds, seed=int(os.environ.get("SOAK_SEED", "1")), least_faults=3000)

    assert figures["violations"] == []
    assert figures["faults"] >= 3000
    assert figures["outcomes"]["answered"] > figures["calls"] / 3
    assert (figures["in_flight"], figures["open_connections"]) == (0, 0)
    assert figures["memory_growth"] < 5_000_000
