"""``resilient-requests demo``: incidents met by plain requests and by ours, side by side."""

from __future__ import annotations

import json
import re
import select
import sys
import textwrap
from dataclasses import asdict
from itertools import islice, zip_longest
from typing import TYPE_CHECKING, Any

from resilient_requests.cli._output import progress, show
from resilient_requests.cli.demo._incidents import INCIDENTS
from resilient_requests.cli.demo._stage import play, resilient_adapter

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from resilient_requests.cli._output import Line
    from resilient_requests.cli.demo._stage import MakeAdapter, Outcome, Row

__all__ = ["add_parser", "listing", "run", "table"]

_TITLE, _WORDS, _FIGURES = 29, 17, 6  # columns, which with their gaps are 79
_NOTICEABLE = 0.05  # seconds
_ERRNO = re.compile(r"\(E[A-Z]+\)")
_VERDICTS = {True: "as promised", False: "NOT AS PROMISED", None: "skipped"}
_STYLES = {True: "green", False: "bold red", None: "dim"}


def add_parser(commands: Any) -> None:
    """Add the command to argparse's subcommands."""
    parser = commands.add_parser(
        "demo",
        help="play faults of networks on this machine, with plain requests and with ours",
        description="Plays incidents of bad networks on a server of its own on loopback, with "
        "plain requests and with ResilientAdapter. Exit code: 0 if each of our rows is as "
        "promised, else 1.",
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object instead of a table"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, make_adapter: MakeAdapter = resilient_adapter) -> int:
    """Play all incidents and print their outcomes.

    Return 0 if each row of ours is as promised, else 1. ``make_adapter`` makes the adapter to
    mount in place of ours; tests of the judgement need it.
    """
    if not hasattr(select, "poll"):
        print("the demonstration needs a POSIX system, for its server", file=sys.stderr)
        return 1
    rows = _play_all(make_adapter)
    if arguments.json:
        print(json.dumps({"rows": [asdict(row) for row in rows]}, indent=2))
    else:
        show(table(rows) if sys.stdout.isatty() else listing(rows))
    return 1 if any(row.as_promised is False for row in rows) else 0


def _play_all(make_adapter: MakeAdapter) -> list[Row]:
    rows: list[Row] = []
    count = len(INCIDENTS)
    with progress() as shown:
        for number, incident in enumerate(INCIDENTS, 1):
            shown.at(number - 1, count, incident.title)
            row = play(incident, make_adapter)
            rows.append(row)
            verdict = _VERDICTS[row.as_promised]
            shown.note(f"[{number}/{count}] {row.incident}: {verdict}", _STYLES[row.as_promised])
    return rows


def table(rows: Sequence[Row]) -> Iterator[Line]:
    """Yield the lines of a table for a terminal of 80 columns and 24 lines.

    With all incidents it has 23 lines: its head is still visible above the next prompt.
    """
    sides = f"{'Plain requests':<{_WORDS + _FIGURES + 2}}With ResilientAdapter"
    yield [(f"{'What happened':<{_TITLE + 2}}{sides}", "bold")]
    for row in rows:
        yield from _lines(row)
    legend = "2/1: the server read two requests and acted upon one; below: seconds"
    yield [(legend, "dim")]
    yield [(_count(rows), "bold")]


def _lines(row: Row) -> Iterator[Line]:
    columns = (
        textwrap.wrap(row.incident, _TITLE),
        _wrapped(row.plain),
        _figures(row.plain),
        _wrapped(row.resilient) + ([_VERDICTS[False]] if row.as_promised is False else []),
        _figures(row.resilient),
    )
    # Figures add no line: the seconds are left out if no other column needs one.
    height = max(len(columns[0]), len(columns[1]), len(columns[3]))
    style = _STYLES[row.as_promised]
    for cells in islice(zip_longest(*columns, fillvalue=""), height):
        title, plain, figures, ours, our_figures = cells
        yield [
            (f"{title:<{_TITLE + 2}}", ""),
            (f"{plain:<{_WORDS}}", "yellow"),
            (f"{figures:>{_FIGURES}}  ", "dim"),
            (f"{ours:<{_WORDS}}", style),
            (f"{our_figures:>{_FIGURES}}", "dim"),
        ]


def _wrapped(outcome: Outcome) -> list[str]:
    """Return the lines of an outcome. An error's name stays whole; only JSON has its errno."""
    return textwrap.wrap(_ERRNO.sub("", outcome.outcome), _WORDS, break_long_words=False)


def _figures(outcome: Outcome) -> list[str]:
    seconds = f"{outcome.seconds:.1f} s" if outcome.seconds >= _NOTICEABLE else ""
    return [f"{outcome.requests}/{outcome.applied}", seconds]


def listing(rows: Sequence[Row]) -> list[Line]:
    """Return the lines of a table for a file, 80 columns wide and ASCII, with all details.

    Each incident has a line, and each client one below it.
    """
    lines = [f"{'':<54}{'seconds':>8}{'seen':>8}{'applied':>10}", "-" * 80]
    for row in rows:
        verdict = f"  <- {_VERDICTS[False]}" if row.as_promised is False else ""
        lines += [
            row.incident,
            _detail("plain", row.plain),
            _detail("ours", row.resilient) + verdict,
        ]
    legend = "seen: requests that the server read; applied: requests that it acted upon"
    lines += ["-" * 80, legend, _count(rows)]
    return [[(line, "")] for line in lines]


def _detail(client: str, found: Outcome) -> str:
    figures = f"{found.seconds:>8.2f}{found.requests:>8}{found.applied:>10}"
    return f"  {client:<7}{found.outcome:<45}{figures}"


def _count(rows: Sequence[Row]) -> str:
    kept = sum(row.as_promised is True for row in rows)
    skipped = sum(row.as_promised is None for row in rows)
    more = f", {skipped} skipped" if skipped else ""
    return f"{kept} of {len(rows) - skipped} as promised{more}"
