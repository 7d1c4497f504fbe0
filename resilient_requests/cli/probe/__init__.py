"""``resilient-requests probe URL``: how long connections may idle, and which side ends them."""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from resilient_requests.cli._arguments import UsageError, header, seconds
from resilient_requests.cli._output import in_words, progress, show
from resilient_requests.cli.probe._connection import BROKEN, ProbeConnection, Target
from resilient_requests.cli.probe._report import Report, address_lines, unreachable
from resilient_requests.cli.probe._run import ProbeRun, idle_times, schedule

if TYPE_CHECKING:
    from resilient_requests.cli.probe._addresses import Address
    from resilient_requests.cli.probe._connection import Facts

__all__ = ["add_parser", "run"]

_SURVIVES, _NEEDED, _USAGE, _UNREACHABLE = 0, 1, 2, 3
_METHODS = ("GET", "HEAD", "OPTIONS", "POST")
_idle_time = seconds(3600.0)


def add_parser(commands: Any) -> None:
    """Add the command to argparse's subcommands."""
    parser = commands.add_parser(
        "probe",
        help="find out for how long connections to a URL may lie idle",
        description="Dials each address of the name. Then leaves connections to URL idle for 1, 2, "
        "5, 10 ... seconds, all at the same time, and uses each once more. Sends some forty small "
        "requests without a body; none is paid for unless you say --method POST. Ctrl-C prints "
        "the findings so far. Exit code: 0 idle connections survive, 1 a window is needed, 2 wrong "
        "usage, 3 unreachable, 130 Ctrl-C.",
    )
    add = parser.add_argument
    url = "the URL to ask for; without a scheme https://; any answer will do, 401 and 404 too"
    add("url", metavar="URL", help=url)
    longest = "longest idle time to try in seconds (120)"
    add("--max-idle", metavar="S", type=_idle_time, default=120.0, help=longest)
    add("--method", type=str.upper, choices=_METHODS, default="GET", help="%(choices)s (GET)")
    each = {"metavar": "'NAME: VALUE'", "action": "append", "type": header, "default": []}
    add("--header", **each, help="send a header; may be given several times")
    add("--json", action="store_true", help="print one JSON object instead of text")
    # Tests give the idle times themselves, with commas.
    add("--rungs", type=_idle_times, help=argparse.SUPPRESS)
    parser.set_defaults(run=run)


def _idle_times(text: str) -> tuple[float, ...]:
    return tuple(map(_idle_time, text.split(",")))


def run(arguments: argparse.Namespace) -> int:
    """Probe, print the findings, and return the exit code.

    Raises KeyboardInterrupt after Ctrl-C, once it has printed the findings so far.
    """
    try:
        target = Target(arguments.url, arguments.method, arguments.header)
    except UsageError as error:
        print(f"resilient-requests probe: {error}", file=sys.stderr)
        return _USAGE
    with target:
        addresses: list[Address] = []
        try:
            addresses = target.addresses()
            fresh = _fresh(target)
        except BROKEN as error:
            said = in_words(error)
            print(f"no connection to {target}: {said}", file=sys.stderr)
            if len(addresses) > 1:  # for a single one the error says it all
                for line in address_lines(addresses, is_proxy=target.proxy is not None):
                    print(line, file=sys.stderr)
            if arguments.json:
                print(json.dumps(unreachable(target, said, addresses), indent=2))
            return _UNREACHABLE
        except KeyboardInterrupt:
            if arguments.json:
                nothing = unreachable(target, "interrupted", is_interrupted=True)
                print(json.dumps(nothing, indent=2))
            raise
        return _probe(target, fresh, addresses, arguments)


def _fresh(target: Target) -> Facts:
    connection = ProbeConnection(target)
    try:
        return connection.open()
    finally:
        connection.close()


def _probe(
    target: Target, fresh: Facts, addresses: list[Address], arguments: argparse.Namespace
) -> int:
    plan = schedule(arguments.rungs or idle_times(arguments.max_idle), fresh.request)
    if target.method == "POST":
        print(
            "POST is sent twice per idle time: a paid call is paid for each time", file=sys.stderr
        )
    longest = plan.idle_times[-1]
    takes = f"about {longest:g} s, at most {2 * longest:g} s"
    print(f"probing {target}: {takes}", file=sys.stderr, flush=True)
    run = ProbeRun(target, plan)
    reported = partial(Report, target, fresh, keepalive=plan.keepalive, addresses=addresses)
    try:
        with progress() as shown:
            run.run(shown)
    except KeyboardInterrupt:
        _print(reported(samples=run.samples(), is_interrupted=True), arguments)
        raise
    report = reported(samples=run.samples())
    _print(report, arguments)
    if not report.verdict.is_conclusive:
        return _UNREACHABLE
    return _SURVIVES if report.verdict.keepalive is None else _NEEDED


def _print(report: Report, arguments: argparse.Namespace) -> None:
    if arguments.json:
        print(json.dumps(report.as_json(), indent=2))
    else:
        show(report.lines())
