"""Plays many incidents at once, each in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lab import certificates
from lab.network import INTERNET, SERVER
from lab.stage import HUNG, Outcome, Trial
from lab.workshop import Workshop

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from typing_extensions import Self

TESTS = Path(__file__).resolve().parent.parent
# By its path, since -m would put the working directory before the package that is installed.
CELL = TESTS / "lab" / "cell.py"
MARGIN = 30.0
"""Seconds that a process may take beyond the limits of its calls."""


class Cell(NamedTuple):
    """One incident for one client."""

    incident: str
    contender: str
    scheme: str


class Board:
    """Plays cells, ``at_once`` of them at a time, in the order of the requests for them.

    ``limit`` is that of `Stage`.
    """

    def __init__(self, *, limit: float, at_once: int) -> None:
        self._limit = limit
        self._pool = ThreadPoolExecutor(at_once, thread_name_prefix="lab")
        self._shop = Workshop()
        certificates.make(self._shop.path, SERVER, INTERNET)
        self._results: dict[Cell, Future[Outcome]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._shop.close()

    def begin(self, cells: Iterable[Cell]) -> None:
        """Begin to play them."""
        for cell in cells:
            self._results[cell] = self._pool.submit(self._play, cell)

    def outcome(self, cell: Cell) -> Outcome:
        """Wait for the outcome; raises RuntimeError where the cell could not be played."""
        if cell not in self._results:
            self.begin([cell])
        return self._results[cell].result()

    def _play(self, cell: Cell) -> Outcome:
        command = ["setpriv", "--pdeathsig", "KILL", sys.executable, str(CELL), *cell]
        try:
            done = subprocess.run(
                [*command, "--limit", str(self._limit), "--certificates", str(self._shop.path)],
                capture_output=True,
                text=True,
                timeout=2 * self._limit + MARGIN,
                # The child must find the modules that this process finds.
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join([str(TESTS), *filter(None, sys.path)]),
                },
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            return Outcome(
                result=HUNG, seconds=error.timeout, calls=1, seen=0, executed=0, most_executed=0
            )
        with contextlib.suppress(ValueError, IndexError):
            facts = json.loads(done.stdout.splitlines()[-1])
            return Outcome(**{**facts, "trials": tuple(Trial(**each) for each in facts["trials"])})
        raise RuntimeError(f"{' '.join(cell)} could not be played: {done.stderr[-2000:]}")
