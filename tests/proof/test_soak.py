"""The soak: rules of one call must hold for thousands at once, among random faults."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("soak.py")
LEAST = 500


@pytest.mark.slow
@pytest.mark.timeout(150)
def test_random_faults_bring_no_wrong_answer_and_leave_nothing_behind() -> None:
    """Every body is the right one, and no request is applied more often than the rules permit.

    Nothing is left behind, either. The soak runs in a process of its own, since pytest keeps every
    log record of a test, which would count as growth. It is short, since other tests run beside it;
    ``nox -s soak`` is the long form.
    """
    command = [sys.executable, str(SCRIPT), "--seconds", "5", "--least-faults", str(LEAST)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["faults"] >= LEAST
