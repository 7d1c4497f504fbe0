"""Plays clients, each in a process of its own that holds no more than that client's modules."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from itertools import chain, product
from pathlib import Path
from typing import TYPE_CHECKING

from packages.faults import Call, Cell, Fault, Outcome, Way
from packages.verdict import worse

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

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
    """Return what became of all cells of a client, which are played once per process.

    A busy machine explains a late answer once: such pairs of cells are played again.
    """
    found = play(client)
    again = [pair for pair in _pairs() if _may_be_noise(pair, found)]
    return {**found, **(play(client, chain(*again)) if again else {})}


def _pairs() -> Iterator[tuple[Cell, Cell]]:
    for fault, call in product(Fault, Call):
        yield Cell(fault, Way.PLAIN, call), Cell(fault, Way.OURS, call)


def _may_be_noise(pair: tuple[Cell, Cell], found: Mapping[Cell, Outcome]) -> bool:
    problems = list(worse(pair[0].fault, found[pair[0]], found[pair[1]]))
    return bool(problems) and not any("applied" in each for each in problems)


def _read(line: str) -> tuple[Cell, Outcome]:
    facts = json.loads(line)
    facts["parents"] = tuple(facts["parents"])
    return Cell.of(facts.pop("cell")), Outcome(**facts)
