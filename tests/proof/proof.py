"""Runs random fault schedules, hunts the planted bugs, and writes the figures into a page.

The command is ``PYTHONPATH=tests/support python tests/proof/proof.py --page docs/proof.md``. It
exits with 1 at a violation, and if a bug survives.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections import Counter
from concurrent.futures import Executor, ProcessPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import duplicates
import planted
import schedules

if TYPE_CHECKING:
    from collections.abc import Callable

PART = 250  # schedules at a time
FIGURES = "## Figures"
# The headings under which the faults are counted.
FAULTS = {
    "connections that died with a request on them": (
        "reset",
        "reset unread",
        "fin",
        "fin then reset",
        "late",
    ),
    "requests cut while they were sent": ("cut while it is sent",),
    "handshakes cut": ("handshake cut",),
    "answers that were no HTTP": ("no HTTP",),
    "heads cut": ("head cut",),
    "bodies cut": ("body cut",),
    "silences": ("silent", "head silent", "body silent"),
    "answers that came twice": ("twice",),
    "503": ("503",),
    "idle connections that died": ("idle: reset", "idle: fin"),
    "idle connections with bytes that nobody asked for": ("idle: bytes",),
    "idle connections that fell silent": ("idle: black hole",),
}


def campaign(
    count: int,
    number: int,
    workers: Executor,
    part: Callable[[int, int], Counter[str]] = schedules.campaign,
) -> Counter[str]:
    """Check so many schedules, in parts; return the counts of their events, or raise Violation."""
    begins = range(0, count, PART)
    counts = [min(PART, count - begin) for begin in begins]
    seeds = [number * 1_000_000 + begin for begin in begins]
    return sum(workers.map(part, counts, seeds), Counter())


def text_of(
    happened: Counter[str], seconds: float, twice: Counter[str], verdicts: list[planted.Verdict]
) -> str:
    """Return the figures in Markdown."""
    versions = ", ".join(
        f"{package} {metadata.version(package)}"
        for package in ("requests", "urllib3", "hypothesis")
    )
    faults = [
        f"| {name} | {sum(happened[each] for each in kinds):,} |" for name, kinds in FAULTS.items()
    ]
    found = sum(1 for each in verdicts if each.found_by is not None)
    lines = [
        FIGURES,
        "",
        (
            f"Python {platform.python_version()}, {versions}; "
            f"{os.cpu_count()} cores, which had other work too."
        ),
        "",
        f"**{happened['schedules']:,} schedules, 0 violations**, in {seconds:.0f} s.",
        "",
        "| what happened | times |",
        "|---|--:|",
        f"| calls | {happened['calls']:,} |",
        f"| requests that reached the server | {happened['requests']:,} |",
        *faults,
        "",
        duplicates.text_of(twice),
        (
            f"**{found} of {len(verdicts)} planted bugs found**, "
            "each in a copy of the package of its own."
        ),
        "",
        planted.table(verdicts),
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Do all, and write it down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="schedules")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--jobs", type=int, default=2 * planted.JOBS, help="how many at once: much of it is waiting"
    )
    parser.add_argument(
        "--page", type=Path, help="write the figures below its heading of that name"
    )
    options = parser.parse_args()
    since = time.monotonic()
    with ProcessPoolExecutor(options.jobs) as workers:
        happened = campaign(options.count, options.seed, workers)
        seconds = time.monotonic() - since
        twice = campaign(options.count, options.seed, workers, duplicates.campaign)
    verdicts = planted.hunt_all(planted.BUGS, options.jobs)
    text = text_of(happened, seconds, twice, verdicts)
    sys.stdout.write(text)
    if options.page is not None:
        before, _, _ = options.page.read_text(encoding="utf-8").partition(FIGURES)
        options.page.write_text(before + text, encoding="utf-8")
    return 0 if all(each.found_by for each in verdicts) else 1


if __name__ == "__main__":
    raise SystemExit(main())
