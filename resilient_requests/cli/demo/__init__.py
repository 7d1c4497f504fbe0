"""``resilient-requests demo``: the incidents, with plain requests and with ours, side by side on real sockets."""

from __future__ import annotations

import json
import select
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from resilient_requests.cli.demo import _rows, _table
from resilient_requests.cli.demo._incidents import INCIDENTS

if TYPE_CHECKING:
    import argparse

    from resilient_requests.cli.demo._stage import MakeAdapter

__all__ = ["add_parser", "run"]


def add_parser(commands: Any) -> None:
    """Add the command to argparse's subcommands."""
    parser = commands.add_parser(
        "demo",
        help="show what plain requests and ours make of bad networks, on this machine",
        description="Plays incidents of bad networks on a server of its own on loopback, with plain requests and "
        "with ResilientAdapter. Exit code: 0 if each of our rows is as promised, else 1.",
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object instead of a table"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, make_adapter: MakeAdapter = _rows.resilient_adapter) -> int:
    """Play all incidents and print what came of them; return 0 if each of our rows is as promised, else 1.

    ``make_adapter``: makes what is mounted in place of ours, for tests of the judgement.
    """
    if not hasattr(select, "poll"):
        print("the demonstration needs a POSIX system, for its server", file=sys.stderr)
        return 1
    rows = []
    with _table.progress(len(INCIDENTS)) as progress:
        for incident in INCIDENTS:
            progress.started(incident.title)
            rows.append(_rows.play(incident, make_adapter))
            progress.finished(rows[-1].as_promised)
    if arguments.json:
        print(json.dumps({"rows": [asdict(row) for row in rows]}, indent=2))
    else:
        _table.show(rows)
    return 1 if any(row.as_promised is False for row in rows) else 0
