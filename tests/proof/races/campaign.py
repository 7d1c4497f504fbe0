"""Lets something happen at random lines of random calls for some time, and reports violations.

``PYTHONPATH=tests/proof:tests/support python -m races.campaign --seconds 60 --seed 7`` prints JSON.
It exits with 1 at a violation. It needs a process of its own, since it traces, as a debugger does.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import random
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pages
from driven_network import both_networks

from races.cases import corpus, known_faults
from races.injections import EVENTS, EXCEPTIONS
from races.scenarios import SCENARIOS
from races.trial import Trial, Violation, lines_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from driven_network import Network

    from races.scenarios import Scenario
    from races.tracing import Place

HAPPENINGS = (*EXCEPTIONS, *EVENTS)
SHOWN = 20  # violations of each kind


@contextlib.contextmanager
def prepared(scenarios: Sequence[Scenario] = SCENARIOS) -> Iterator[dict[bool, Network]]:
    """Open the networks, and do the work that a process does once for these scenarios."""
    with both_networks() as networks:
        # The classes of connections must stay, since a call that makes them anew passes other
        # lines. The freeze limits each collection to the objects of one trial.
        gc.disable()
        for scenario in scenarios:
            lines_of(scenario, networks)
        gc.freeze()
        gc.enable()
        try:
            yield networks
        finally:
            gc.unfreeze()


def run_corpus(most: int | None = None) -> dict[str, str]:
    """Try the races that were found once; return the violation of each entry that has one.

    ``most``: lines that are tried of each entry; None: all.
    """
    with prepared() as networks:
        violations = {entry.name: entry.violation(networks, most) for entry in corpus()}
    return {name: str(each) for name, each in violations.items() if each is not None}


def run(
    seed: object, seconds: float, most: int | None = None, happenings: Sequence[str] = HAPPENINGS
) -> tuple[Counter[str], dict[str, list[str]]]:
    """Try for so many seconds, at most so many times; return counts, and the violations by kind."""
    chance = random.Random(repr(seed))
    counts: Counter[str] = Counter()
    found: dict[str, list[str]] = {}
    with prepared() as networks:
        known = _known(networks)
        lines = {scenario: sorted(lines_of(scenario, networks).items()) for scenario in SCENARIOS}
        until = time.monotonic() + seconds
        while time.monotonic() < until and counts["trials"] != most:
            trial = _random_trial(chance, lines, happenings)
            counts["trials"] += 1
            try:
                is_met = trial.check(networks)
            except Violation as violation:
                is_met = True
                if any(each.is_like(violation) for each in known):
                    counts["of a known fault"] += 1
                else:
                    found.setdefault(violation.kind, []).append(str(violation))
            counts[trial.happening if is_met else "too few lines"] += 1
    return counts, found


def _random_trial(
    chance: random.Random,
    lines: Mapping[Scenario, Sequence[tuple[Place, list[int]]]],
    happenings: Sequence[str],
) -> Trial:
    """Return a trial; each line of the code is as likely, however often a call passes it."""
    scenario = chance.choice(SCENARIOS)
    _, numbers = chance.choice(lines[scenario])
    return Trial(
        scenario,
        chance.choice(happenings),
        chance.choice(numbers),
        pause=chance.choice((0, chance.randrange(1, 60), chance.randrange(1, 200))),
        gap=chance.choice((1, 2, 3, 5, 10, 30, 100)),
    )


def _known(networks: Mapping[bool, Network]) -> list[Violation]:
    """Return a violation for each known fault: random trials find them again and again."""
    names = known_faults()
    violations = [entry.violation(networks) for entry in corpus() if entry.name in names]
    return [each for each in violations if each is not None]


def promises(counts: Counter[str]) -> dict[str, int]:
    """Return how many trials there were for each promise in the table of docs/proof.md."""
    return {
        "An exception of the caller leaves as it is": sum(counts[each] for each in EXCEPTIONS),
        "Whatever happens in a call, the next one is right": counts["trials"],
    }


def main() -> int:
    """Run the corpus, or a campaign, from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", action="store_true", help="only what was found once")
    parser.add_argument("--lines", type=int, help="at most so many lines of each of these")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many processes")
    parser.add_argument("--page", type=Path, help="write the number of cases into this page")
    options = parser.parse_args()
    if options.corpus:
        failing = run_corpus(options.lines)
        json.dump({"failing": failing, "listed": sorted(known_faults())}, sys.stdout, indent=2)
        return 0 if failing.keys() == known_faults() else 1
    counts: Counter[str] = Counter()
    found: dict[str, list[str]] = {}
    with ProcessPoolExecutor(options.jobs) as workers:
        seeds = [(options.seed, job) for job in range(options.jobs)]
        for part, violations in workers.map(run, seeds, [options.seconds] * options.jobs):
            counts += part
            for kind, texts in violations.items():
                found.setdefault(kind, []).extend(texts)
    if options.page is not None and not found:
        pages.fill_cases(options.page, promises(counts))
    shown: dict[str, Any] = {kind: sorted(set(texts))[:SHOWN] for kind, texts in found.items()}
    json.dump({"counts": counts, "violations": shown}, sys.stdout, indent=2)
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
