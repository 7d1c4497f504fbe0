"""Writes the tables of incidents: ``python -m lab.table [PAGE]``, as root, in ``tests``.

Takes some minutes. Clients that are not installed have an empty column.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from importlib import metadata
from pathlib import Path

from lab.board import Board, Cell
from lab.cell import SCHEMES
from lab.contenders import CONTENDERS, is_installed
from lab.incidents import INCIDENTS, USUAL, Family, Incident
from lab.network import why_not
from lab.stage import OK, Outcome

PAGE = Path(__file__).resolve().parents[2] / "docs" / "incidents.md"
LIMIT = 60.0
AT_ONCE = 16
HEADINGS = {
    "plain": "requests",
    "timeout": "+ timeout",
    "retry": "+ Retry",
    "openai": "openai SDK",
    "ours": "ours",
}

TOPICS: dict[str, tuple[Family, ...]] = {
    "Connections that the network forgot": (
        "idle",
        "long window",
        "dead pool",
        "closed",
        "suspend",
    ),
    "Streams that break or stall": ("stream",),
    "Servers that freeze or take their time": ("frozen", "silence", "large"),
    "Links that fail for a while": ("outage",),
    "Proxies": ("proxy",),
}

_INTRODUCTION = """\
# Incidents

This page shows the fate of calls in the faults of real networks. Nothing is simulated: a laboratory
of Linux network namespaces (client, NAT router, internet, server) lets the real kernel forget
flows, drop packets, send resets, change addresses and freeze servers. The clients meet it over real
sockets. Times are scaled down: the NAT forgets an idle flow after 2 to 4 s where a row is about
that, and real ones after 30 s to some minutes; the limits of the clients are short too.

- **ours**: `ResilientAdapter` with `timeout=(3, 8)`, and a window of 1 s for idle connections (the
  package's 10 s, scaled like the rest), else as it comes. Rows with other settings are listed below
  the tables.
- **requests**: a plain session. **+ timeout**: `timeout=(3, 8)`. **+ Retry**: that, and
  `HTTPAdapter(max_retries=Retry(2, allowed_methods=None))`. **openai SDK**: the same timeout, its
  own two retries.
- A cell holds the outcome, the seconds from the fault on, and, where it is not one request for one
  call, how many requests the server **saw** and how many it **executed**. That last number matters
  most: it is how often something was done, and charged.
- **HUNG**: still waiting after {limit:.0f} s. **TRUNCATED**: a stream ended early, and the client
  took it for whole. Else the exception's class, with the system's error number where there was one.
- In bold: calls with other clients that did not end well. Ours is never bold: the tests check what
  it promises.
- One run per cell: trust the outcome, not the hundredths of a second. Streams are read with
  `iter_lines()`, as code that knows nothing of this package reads them.
"""

_END = """
Our column is checked by the tests, row by row, with and without TLS, on each change. To see it
yourself, as root on Linux, with the Debian packages iproute2, nftables and conntrack, and for a row
each tinyproxy-bin and haproxy:

```sh
pip install -e '.[test]'
pytest -m lab tests/lab
cd tests && python -m lab.table
```
"""


def main() -> None:
    """Play all and write the page."""
    parser = argparse.ArgumentParser(description="Write the table of incidents.")
    parser.add_argument("page", nargs="?", type=Path, default=PAGE)
    page = parser.parse_args().page
    reason = why_not()
    if reason is not None:
        sys.exit(f"there can be no laboratory here: {reason}")
    since = time.monotonic()
    rows = [row for row in INCIDENTS if row.is_playable]
    with Board(limit=LIMIT, at_once=AT_ONCE) as board:
        cells = [
            Cell(row.name, each, scheme)
            for row in rows
            for each in CONTENDERS
            if is_installed(each)
            for scheme in SCHEMES
        ]
        board.begin(cells)
        outcomes = {cell: board.outcome(cell) for cell in cells}
    page.write_text(text_of(rows, outcomes), encoding="utf-8")
    sys.stdout.write(f"{page}: {len(cells)} cells in {time.monotonic() - since:.0f} s\n")


def text_of(rows: list[Incident], outcomes: dict[Cell, Outcome]) -> str:
    """Return the page."""
    # Ours first: on a narrow screen the others are out of sight.
    columns = sorted((each for each in CONTENDERS if is_installed(each)), key="ours".__ne__)
    lines = [_INTRODUCTION.format(limit=LIMIT), _versions(columns), ""]
    for topic, families in TOPICS.items():
        found = [row for row in rows if row.family in families]
        lines += [f"## {topic}", "", *_table(found, columns, outcomes), ""]
    return "\n".join([*lines, "## Settings that differ", "", *_differences(rows), _END])


def _table(rows: list[Incident], columns: list[str], outcomes: dict[Cell, Outcome]) -> list[str]:
    lines = [
        "| incident | | " + " | ".join(HEADINGS[each] for each in columns) + " |",
        "|---|---|" + "---|" * len(columns),
    ]
    for row in rows:
        for scheme in SCHEMES:
            title = row.title if scheme == SCHEMES[0] else ""
            cells = [
                _cell(outcomes[Cell(row.name, each, scheme)], is_ours=each == "ours")
                for each in columns
            ]
            lines.append(
                f"| {title} | {'TLS' if scheme == 'https' else 'plain'} | {' | '.join(cells)} |"
            )
    return lines


def _versions(columns: list[str]) -> str:
    packages = ["requests", "urllib3", *(["openai"] if "openai" in columns else [])]
    versions = [
        f"Linux {platform.release().partition('-')[0]}",
        f"Python {platform.python_version()}",
        *(f"{package} {metadata.version(package)}" for package in packages),
    ]
    return f"Measured with {', '.join(versions)}."


def _cell(outcome: Outcome, *, is_ours: bool) -> str:
    result = outcome.result if outcome.result == OK or is_ours else f"**{outcome.result}**"
    text = f"{result} {outcome.seconds:.1f} s"
    if (outcome.seen, outcome.executed) != (outcome.calls, outcome.calls):
        text += f", saw {outcome.seen}, executed {outcome.executed}"
        if outcome.calls > 1:
            text += f" of {outcome.calls}"
    return text


def _differences(rows: list[Incident]) -> list[str]:
    lines = []
    for row in rows:
        settings, told = row.settings, []
        if (settings.connect, settings.read) != (USUAL.connect, USUAL.read):
            told.append(f"`timeout=({settings.connect:g}, {settings.read:g})` for all clients")
        if settings.window != USUAL.window:
            told.append(f"window {settings.window:g} s")
        if settings.probes is not None:
            idle, interval, count = settings.probes
            limit = idle + interval * count
            probes = f"idle={idle}, interval={interval}, count={count}"
            told.append(f"`TCPKeepAlive({probes}, user_timeout={limit})`")
        if settings.wait is not None:
            told.append(f"`RetryPolicy(wait=tenacity.wait_fixed({settings.wait}))`")
        if told:
            lines.append(f"- {row.title}: {'; '.join(told)}.")
    return lines


if __name__ == "__main__":
    main()
