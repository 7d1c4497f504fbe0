"""Plays clients, each in a process of its own that holds no more than that client's modules."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from packages.faults import Cell, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

TESTS = Path(__file__).resolve().parents[1]
LONGEST = 240.0
"""Seconds in which all cells of a client must be over; each has a bound of its own."""


def play(client: str, cells: Iterable[Cell] = ()) -> dict[Cell, Outcome]:
    """Play cells of a client, all by default; raises RuntimeError where one could not be played."""
    command = [sys.executable, "-m", "packages.host", client, *(cell.name for cell in cells)]
    path = os.pathsep.join([str(TESTS), *filter(None, sys.path)])
    done = subprocess.run(
        command,
        cwd=TESTS,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=LONGEST,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{client} could not be played: {done.stderr[-3000:]}")
    return dict(_read(line) for line in done.stdout.splitlines())


@functools.cache
def outcomes(client: str) -> Mapping[Cell, Outcome]:
    """Return what became of all cells of a client, which are played once per process."""
    return play(client)


def _read(line: str) -> tuple[Cell, Outcome]:
    facts = json.loads(line)
    facts["parents"] = tuple(facts["parents"])
    return Cell.of(facts.pop("cell")), Outcome(**facts)
