"""The soak: what holds for one call must hold for thousands at once, among faults that nobody has chosen."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("soak.py")
LEAST = 3000


@pytest.mark.slow
@pytest.mark.timeout(0)  # the length is chosen by whoever runs it; each wait within is bounded
def test_random_faults_bring_no_wrong_answer_and_leave_nothing_behind() -> None:
    """Every body is what was asked for, nothing is applied more often than the rules permit, nothing is left.

    In a process of its own: pytest keeps every log record of a test, which would count as growth.
    """
    seconds, seed = os.environ.get("SOAK_SECONDS", "12"), os.environ.get("SOAK_SEED", "1")
    command = [sys.executable, str(SCRIPT), "--seconds", seconds, "--seed", seed, "--least-faults", str(LEAST)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=float(seconds) * 4 + 60, check=False)
    assert done.returncode in (0, 1), done.stderr
    figures = json.loads(done.stdout)

    assert figures["violations"] == []
    assert figures["faults"] >= LEAST
    assert figures["outcomes"]["answered"] > figures["calls"] / 3
    assert (figures["in_flight"], figures["open_connections"]) == (0, 0)
    assert figures["memory_growth"] < 5_000_000
