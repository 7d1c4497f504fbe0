"""The benchmarks run and report; their figures depend on the machine, and are for their page."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

EARLIER = """\
### One event every 2 ms

CPython 3.10.1 on Some (cpu, 2 CPUs); requests 2.32.2.

| an earlier | table |
"""
PAGE = f"""\
| one event every 2 ms | of an earlier run |
| gone | old |

{EARLIER}
### Gone

CPython 3.9.1 on Some (cpu, 2 CPUs); requests 2.31.0.
"""
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", [["-m", "benchmarks"], ["benchmarks/run.py"]], ids=["module", "file"]
)
def test_a_measure_runs_and_writes_its_page(command: list[str], tmp_path: Path) -> None:
    """Two rounds run with packages that are installed everywhere: the peers need not exist."""
    page = tmp_path / "page.md"
    page.write_text(PAGE, encoding="utf-8")
    options = ["post", "--rounds", "2", "--contenders", "raw,plain,ours"]
    options += ["--venv", str(tmp_path / "none"), "--page", str(page)]

    done = subprocess.run(
        [sys.executable, *command, *options],
        cwd=ROOT,
        env={**os.environ, "PYTHONWARNINGS": "default"},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "CPU / plain HTTPAdapter" in done.stdout
    assert "post: round 2/2" in done.stderr
    text = page.read_text(encoding="utf-8")
    goals, _, sections = text.partition("## Measures\n\n")
    assert "| POST on a kept-alive connection | CPU / plain HTTPAdapter |" in goals
    assert "| one event every 2 ms | of an earlier run |" in goals
    made, kept = sections.split("### ")[1:]
    assert made.startswith(
        f"POST on a kept-alive connection\n\n{platform.python_implementation()} "
    ), made
    assert "| resilient_requests |" in made
    assert f"### {kept}" == EARLIER


@pytest.mark.slow
@pytest.mark.parametrize(
    "mistake", [["nonesuch"], ["post", "nonesuch"], ["post", "--contenders", "ours,nonesuch"]]
)
def test_an_unknown_name_is_a_usage_error(mistake: list[str]) -> None:
    """A typing error must not look like a run without findings."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *mistake, "--venv", "none"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )

    assert done.returncode == 2
    assert "nonesuch" in done.stderr
