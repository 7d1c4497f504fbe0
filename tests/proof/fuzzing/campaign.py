"""Runs random cases for some time, and reports the violations.

``PYTHONPATH=tests/proof:tests/support python -m fuzzing.campaign --seconds 60 --seed 7`` prints
JSON. It exits with 1 at a violation.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pages
from driven_network import both_networks

from fuzzing.cases import Entry, corpus, known_faults
from fuzzing.grammar import Maker
from fuzzing.judge import Judge, Violation
from fuzzing.shrinking import shrink

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fuzzing.cases import Case


SHRINKING = 20.0  # seconds for each kind of violation


@contextlib.contextmanager
def judging() -> Iterator[Judge]:
    """Open a network without and one with TLS, and a judge over both."""
    with both_networks() as networks:
        yield Judge(networks)


def _known(judge: Judge) -> list[Violation]:
    """Return a violation for each known fault: random cases find them again and again."""
    names = known_faults()
    violations = [judge.violation(each.case) for each in corpus() if each.name in names]
    return [each for each in violations if each is not None]


def run(
    seed: object, seconds: float, most: int | None = None, shrinking: float = SHRINKING
) -> tuple[Counter[str], list[Violation]]:
    """Check random cases for so many seconds, at most so many; return counts and violations.

    Of each kind of violation there is one, shrunk for so many seconds.
    """
    found: dict[str, Violation] = {}
    with judging() as judge:
        known = _known(judge)
        judge.counts.clear()
        maker, until = Maker(seed), time.monotonic() + seconds
        while time.monotonic() < until and judge.counts["cases"] != most:
            violation = judge.violation(maker.case())
            if violation is None:
                continue
            if any(each.is_like(violation) for each in known):
                judge.counts["of a known fault"] += 1
            else:
                found.setdefault(violation.kind, violation)
        counts = judge.counts.copy()
        shrunk = [_shrunk(judge, violation, shrinking) for violation in found.values()]
    return counts, shrunk


def _shrunk(judge: Judge, violation: Violation, seconds: float) -> Violation:
    def is_same(case: Case) -> bool:
        other = judge.violation(case)
        return other is not None and other.kind == violation.kind

    case = shrink(violation.case, is_same, seconds)
    return judge.violation(case) or violation


def promises(counts: Counter[str]) -> dict[str, int]:
    """Return how many cases there were for each promise in the table of docs/proof.md."""
    whole, tolerated = counts["read whole"], counts["read tolerated"]
    return {
        "A whole response is read as it was sent": whole,
        "A broken response is an error": counts["read refused"],
        "Nothing is accepted that others refuse": tolerated,
        "A connection is used again only behind a whole message": counts["cases"],
    }


def main() -> int:
    """Run a campaign from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many processes")
    parser.add_argument("--page", type=Path, help="write the number of cases into this page")
    options = parser.parse_args()
    seeds = [(options.seed, job) for job in range(options.jobs)]
    counts: Counter[str] = Counter()
    found: dict[str, Violation] = {}
    with ProcessPoolExecutor(options.jobs) as workers:
        for part, violations in workers.map(run, seeds, [options.seconds] * options.jobs):
            counts += part
            found |= {each.kind: each for each in violations}
    shown = {
        # With a name of its own the entry is a line of the corpus.
        kind: {"text": str(each), "entry": Entry(kind, each.case).dumps()}
        for kind, each in found.items()
    }
    if options.page is not None and not found:
        pages.fill_cases(options.page, promises(counts))
    json.dump({"counts": counts, "violations": shown}, sys.stdout, indent=2)
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
