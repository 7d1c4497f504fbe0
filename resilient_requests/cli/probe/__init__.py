"""``resilient-requests probe URL``: after how many idle seconds a connection is lost, by whose doing, what to set."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

import requests

from resilient_requests.cli._seconds import up_to
from resilient_requests.cli._terminal import rich_console
from resilient_requests.cli._words import in_words
from resilient_requests.cli.probe import _ladder, _progress
from resilient_requests.cli.probe._climb import Climb, plan
from resilient_requests.cli.probe._line import BROKEN, Line
from resilient_requests.cli.probe._report import Report, unreachable
from resilient_requests.cli.probe._target import Target

if TYPE_CHECKING:
    from resilient_requests.cli.probe._line import Facts

__all__ = ["add_parser", "run"]

_SURVIVES, _NEEDED, _USAGE, _UNREACHABLE = 0, 1, 2, 3
_METHODS = ("GET", "HEAD", "OPTIONS", "POST")
_seconds = up_to(3600.0)


def add_parser(commands: Any) -> None:
    """Add the command to argparse's subcommands."""
    parser = commands.add_parser(
        "probe",
        help="find out for how long connections to a URL may lie idle",
        description="Leaves connections to URL idle for 1, 2, 5, 10 ... seconds, all at the same time, and uses "
        "each once more. Sends some forty small requests without a body; none is paid for unless you say "
        "--method POST. Exit code: 0 idle connections survive, 1 a window is needed, 2 wrong usage, 3 unreachable.",
    )
    parser.add_argument(
        "url", metavar="URL", help="what to ask for; any answer will do, 401 and 404 too"
    )
    parser.add_argument(
        "--max-idle",
        metavar="S",
        type=_seconds,
        default=120.0,
        help="longest idle time to try in seconds (120)",
    )
    parser.add_argument(
        "--method", type=str.upper, choices=_METHODS, default="GET", help="%(choices)s (GET)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    parser.add_argument(
        "--rungs", type=_times, help=argparse.SUPPRESS
    )  # for tests: idle times, with commas
    parser.set_defaults(run=run)


def _times(text: str) -> tuple[float, ...]:
    return tuple(map(_seconds, text.split(",")))


def run(arguments: argparse.Namespace) -> int:
    """Probe, print what was found, and return the exit code."""
    try:
        target = Target(arguments.url, arguments.method)
    except requests.RequestException as error:
        print(f"resilient-requests probe: {in_words(error)}", file=sys.stderr)
        return _USAGE
    with target:
        try:
            fresh = _fresh(target)
        except BROKEN as error:
            return _no_connection(in_words(error), target, as_json=arguments.json)
        report = _probe(target, fresh, arguments.rungs or _ladder.rungs(arguments.max_idle))
    if arguments.json:
        print(json.dumps(report.as_json(), indent=2))
    else:
        _show(report)
    if not report.verdict.is_conclusive:
        return _UNREACHABLE
    return _SURVIVES if report.verdict.keepalive is None else _NEEDED


def _fresh(target: Target) -> Facts:
    line = Line(target)
    try:
        return line.open()
    finally:
        line.close()


def _probe(target: Target, fresh: Facts, times: tuple[float, ...]) -> Report:
    scheme = plan(times, fresh)
    if target.method == "POST":
        print(
            "POST is sent two times per rung: what it costs, it costs that often", file=sys.stderr
        )
    print(
        f"probing {target.host}:{target.port}, {max(times):g} s and a little more",
        file=sys.stderr,
        flush=True,
    )
    with _progress.watcher() as watcher:
        rungs = Climb(target, scheme, watcher).run()
    return Report(target, fresh, rungs, scheme.probes)


def _no_connection(said: str, target: Target, *, as_json: bool) -> int:
    print(f"no connection to {target.host}:{target.port}: {said}", file=sys.stderr)
    if as_json:
        print(json.dumps(unreachable(said), indent=2))
    return _UNREACHABLE


def _show(report: Report) -> None:
    console = rich_console(sys.stdout)
    for line, style in report.lines():
        if console is None:
            print(line)
        else:
            console.print(line, style=style or None, markup=False)
