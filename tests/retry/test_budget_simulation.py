"""The simulation behind the budget's numbers, at a small scale."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_budget_keeps_its_promises(tmp_path: Path) -> None:
    """An outage costs at most 1.2 attempts per call, and 20 % loss at most 2 % of the calls."""
    figure = tmp_path / "budget.svg"
    command = [
        sys.executable,
        "-m",
        "benchmarks.budget",
        "--clients",
        "100",
        "--figure",
        str(figure),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50, check=True)
    cells = {
        row[1].strip(): row[-2] for row in (line.split("|") for line in done.stdout.splitlines())
    }

    for rate in ("1", "5", "50"):
        amplification, loss = (float(part.strip(" %")) for part in cells[rate].split("/"))
        assert amplification <= 1.2
        assert loss <= 2.0
    assert figure.read_text("utf-8").startswith("<svg")
