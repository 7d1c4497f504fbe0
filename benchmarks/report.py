"""The results, as text for a terminal and as a page for the documentation."""

from __future__ import annotations

import os
import platform
import re
import statistics
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from benchmarks.measures import Goal, Measure
    from benchmarks.rounds import Results

__all__ = ["Figure", "contenders_table", "facts", "figures", "goals_table", "page"]

_NAMES = {
    "raw": "sockets, split, json",
    "plain": "requests",
    "timeout": "requests with a timeout",
    "retry": "requests + urllib3's Retry",
    "tenacity": "requests + tenacity",
    "ours": "resilient_requests",
    "ours_lazy": "resilient_requests, no json",
    "ours_lines": "resilient_requests, iter_lines",
    "ours_chat": "resilient_requests, stream_chat",
    "ours_installed": "requests after install()",
    "sseclient": "requests + sseclient-py",
    "requests_sse": "requests + requests-sse",
    "httpx": "httpx + httpx-sse",
    "openai": "OpenAI SDK",
    "niquests": "niquests",
}
_DISTRIBUTIONS = (
    "requests",
    "urllib3",
    "tenacity",
    "httpx",
    "httpx-sse",
    "openai",
    "niquests",
    "sseclient-py",
)


@dataclass(frozen=True)
class Figure:
    """The result for a goal."""

    goal: Goal
    values: list[float]

    @property
    def median(self) -> float:
        """The median over all rounds."""
        return statistics.median(self.values)

    @property
    def verdict(self) -> str:
        """Which of the two goals is reached."""
        if self.median <= self.goal.hard:
            return "hard goal reached"
        return "reached" if self.median <= self.goal.goal else "NOT reached"

    def cells(self) -> list[str]:
        """Return the row of the table of goals."""
        unit = f" {self.goal.unit}" if self.goal.unit else ""
        span = f"{_number(min(self.values))} to {_number(max(self.values))}"
        goals = [f"{each:.3g}{unit}" for each in (self.goal.goal, self.goal.hard)]
        return [
            self.goal.text,
            *goals,
            _number(self.median) + unit,
            span,
            str(len(self.values)),
            self.verdict,
        ]


def figures(measure: Measure, results: Results) -> list[Figure]:
    """Return a figure for each goal whose contenders took part."""
    found = []
    for goal in measure.goals:
        values = [
            _value(goal, one)
            for one in results
            if goal.ours in one and goal.against in (None, *one)
        ]
        if values:
            found.append(Figure(goal, values))
    return found


def _value(goal: Goal, one: dict[str, dict[str, float]]) -> float:
    value = one[goal.ours][goal.of]
    if goal.against is not None:
        other = one[goal.against][goal.of]
        value = value - other if goal.is_difference else value / other
    return value * goal.factor


def _number(value: float) -> str:
    size = abs(value)
    if size >= 10:
        return f"{value:.0f}" if size >= 100 else f"{value:.3g}"
    return (
        f"{value:.3f}" if 0 < size < 0.1 else f"{value:.2f}"
    )  # a goal of 1/30 would not be told from one of 1/25


_HEAD = ["measure", "goal", "hard goal", "median", "range", "n", ""]


def goals_table(found: Iterable[Figure]) -> list[list[str]]:
    """Return the table of goals, its head first."""
    return [_HEAD, *(figure.cells() for figure in found)]


def contenders_table(measure: Measure, results: Results) -> list[list[str]]:
    """Return the table of contenders, its head first: medians, and those of ratios to the first."""
    of, factor = measure.shown
    names = [name for name in measure.contenders if name in results[0] and of in results[0][name]]
    if not names:
        return []
    first = names[0]
    rows = [["", measure.unit, f"/ {_NAMES[first]}", "range"]]
    for name in names:
        values = [one[name][of] * factor for one in results]
        ratios = [one[name][of] / one[first][of] for one in results if one[first][of]]
        if ratios:
            ratio = [
                _number(statistics.median(ratios)),
                f"{_number(min(ratios))} to {_number(max(ratios))}",
            ]
        else:
            ratio = ["", ""]
        rows.append([_NAMES[name], _number(statistics.median(values)), *ratio])
    return rows


def facts() -> str:
    """Return a sentence about the machine and the versions that the figures come from."""
    versions = []
    for name in _DISTRIBUTIONS:
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    python = f"{platform.python_implementation()} {platform.python_version()}"
    machine = f"{platform.system()} ({platform.machine()}, {os.cpu_count()} CPUs)"
    return f"{python} on {machine}; {', '.join(versions)}."


_LEAD = """\
# Benchmarks

This page shows the costs of the adapter, beside plain requests and other clients. Each figure has a
goal, and a figure that does not reach its goal says so. A program makes this page: see
[how](#how-it-is-measured).
"""

_METHOD = """\
## How it is measured

Nothing here is written by hand. To make all figures again, or those whose names are given, which
leaves the others as they are:

```console
$ python -m benchmarks --install
$ python -m benchmarks
$ python -m benchmarks threads latency --page docs/benchmarks.md
```

The upstream is a process of its own that sends bytes rendered beforehand, on loopback. Each
contender has a process that is kept; each round runs all of them once, in a fresh random order; the
first round is thrown away. CPU is the process time of the client. Ratios are taken within a round:
machines change their speed, and only what ran in the same second can be compared. The range is that
of all rounds, not a confidence interval, and n is their number: less for the long lines and the
million events, where a round takes up to a minute, since memory can only be measured in a process
that is new each time. Each heading names its machine and its versions, because measures may come
from different runs.

The goals for events are those of parsing. `stream_chat` does more: it makes typed deltas, puts the
answer together and judges its end. Its goals against other ways to read a stream are looser ones of
its own.

Some goals are missed. Timings of the parts give the reasons. The layers are a dozen small things
for each call, such as its entry among those that a shutdown ends, and the record of its attempt.
None takes more than 1 µs, and all together 2 % of a POST. With one event every 2 ms, limits cost
sockets next to nothing, but all code takes two to four times as long after a wait as without a
pause. With 100 threads, requests reads without a time limit, in one system call; a read within a
limit takes two, and each gives the interpreter to another thread. An `iter_lines` loop that is left
at the mark keeps its connection only if the end of the body has come by then; `stream_chat` waits
for it.
"""


def page(
    sections: Iterable[tuple[Measure, Results]], measures: Iterable[Measure] = (), before: str = ""
) -> str:
    """Return the page; of ``measures`` that did not run it keeps the text of ``before``."""
    made = {measure.title: results for measure, results in sections}
    goals, told = _markdown([["", *_HEAD]]), ""
    for measure in [*measures] or [measure for measure, _ in sections]:
        title = measure.title[0].upper() + measure.title[1:]
        if measure.title in made:
            found = figures(measure, made[measure.title])
            goals += _rows([measure.title, *figure.cells()] for figure in found)
            table = (
                _markdown(contenders_table(measure, made[measure.title]))
                if len(measure.contenders) > 1
                else ""
            )
            section = f"{facts()}\n\n{table}"
        else:
            goals += "".join(
                re.findall(rf"^\| {re.escape(measure.title)} \|.*\n", before, re.MULTILINE)
            )
            section = "".join(
                re.findall(
                    rf"^### {re.escape(title)}\n\n((?:[^#\n].*\n|\n)*)", before, re.MULTILINE
                )
            )
        told += f"### {title}\n\n{section.rstrip()}\n\n" if section else ""
    return f"{_LEAD}\n## Goals\n\n{goals}\n{_METHOD}\n## Measures\n\n{told.rstrip()}\n"


def _markdown(rows: list[list[str]]) -> str:
    if not rows:
        return ""
    head, *body = rows
    return _rows([head, ["---"] * len(head), *body])


def _rows(lines: Iterable[list[str]]) -> str:
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
