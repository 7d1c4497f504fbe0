"""The table of the page: a row per client, a column per fault, plain beside ours."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import TYPE_CHECKING

from packages.clients import CLIENTS
from packages.faults import HUNG, OK, WRONG, Call, Cell, Fault, Outcome, Way
from packages.verdict import is_better, worse

if TYPE_CHECKING:
    from collections.abc import Mapping

    Outcomes = Mapping[str, Mapping[Cell, Outcome]]

BEGIN, END = "<!-- table -->\n", "<!-- end of the table -->"
HEADINGS = {
    Fault.RESET: "reset on reuse",
    Fault.SILENT: "silent on reuse",
    Fault.ACTED: "acted, then reset",
    Fault.STALL: "stall in the body",
    Fault.FORK: "fork",
}
_SYMBOLS = {OK: "✓", HUNG: "∞", WRONG: "≠"}
_TIMES = {2: "²", 3: "³"}


def text_of(outcomes: Outcomes) -> str:
    """Return the table in Markdown, between its marks."""
    versions = ", ".join(f"{each} {metadata.version(each)}" for each in ("requests", "urllib3"))
    lines = [
        BEGIN.rstrip(),
        f"Python {platform.python_version()}, {versions}.",
        "",
        f"| client | {' | '.join(HEADINGS.values())} |",
        "|---|" + "---|" * len(HEADINGS),
        *(_row(name, outcomes[name]) for name in outcomes),
        "",
        *_sums(outcomes),
        END,
    ]
    return "\n".join(lines) + "\n"


def problems(outcomes: Outcomes) -> list[str]:
    """Return a line for each cell of ours that is worse than the plain one."""
    return [
        f"{name}, {fault.value}, {call.value}: {problem}"
        for name, cells in outcomes.items()
        for fault in filter(CLIENTS[name].is_judged, Fault)
        for call in Call
        for problem in worse(fault, *_pair(cells, fault, call))
    ]


def title_of(name: str) -> str:
    """Return what stands in the first column."""
    client = CLIENTS[name]
    return client.title.format(metadata.version(client.package), package=client.package)


def _row(name: str, cells: Mapping[Cell, Outcome]) -> str:
    found = [
        _cell(cells, fault) if CLIENTS[name].is_judged(fault) else "by chance" for fault in HEADINGS
    ]
    return f"| {title_of(name)} | {' | '.join(found)} |"


def _cell(cells: Mapping[Cell, Outcome], fault: Fault) -> str:
    pairs = [_pair(cells, fault, call) for call in Call]
    plain, ours = ([_symbol(pair[side]) for pair in pairs] for side in (0, 1))
    text = f"{_merged(plain)} → {_merged(ours)}"
    if any(list(worse(fault, *pair)) for pair in pairs):
        return f"{text} ⚠"
    return f"**{text}**" if any(is_better(*pair) for pair in pairs) else text


def _symbol(outcome: Outcome) -> str:
    return _SYMBOLS.get(outcome.result, "✗") + _TIMES.get(outcome.applied, "")


def _merged(symbols: list[str]) -> str:
    """Return the symbols of the two calls, once where they are the same."""
    return symbols[0] if symbols[0] == symbols[1] else " ".join(symbols)


def _pair(cells: Mapping[Cell, Outcome], fault: Fault, call: Call) -> tuple[Outcome, Outcome]:
    return cells[Cell(fault, Way.PLAIN, call)], cells[Cell(fault, Way.OURS, call)]


def _sums(outcomes: Outcomes) -> list[str]:
    """Return how many calls were answered, and how many applied twice."""
    lines = [
        "| of all calls | " + " | ".join(HEADINGS.values()) + " |",
        "|---|" + "---|" * len(HEADINGS),
    ]
    for way in Way:
        sums = []
        for fault in HEADINGS:
            found = [cells[Cell(fault, way, call)] for cells in outcomes.values() for call in Call]
            answered = sum(each.result == OK for each in found)
            sums.append(f"{answered} of {len(found)}")
        lines.append(f"| answered, {way.value} | {' | '.join(sums)} |")
    again = {way: _applied_again(outcomes, way) for way in Way}
    told = f"{again[Way.PLAIN]} plain and {again[Way.OURS]} of ours"
    return [
        *lines,
        "",
        f"Acted, then reset, on a connection that was idle: {told} were applied twice.",
    ]


def _applied_again(outcomes: Outcomes, way: Way) -> int:
    cells = [Cell(Fault.ACTED_REUSED, way, call) for call in Call]
    return sum(found[cell].applied > 1 for found in outcomes.values() for cell in cells)
