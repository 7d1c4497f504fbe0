"""The command line: ``resilient-requests COMMAND``."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import redirect_stderr
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from resilient_requests.cli import chat, demo, probe
from resilient_requests.cli._words import in_words

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

# Each has ``add_parser(commands)``, which sets ``run``: a callable that takes the arguments and returns an exit code.
_COMMANDS = (demo, chat, probe)
_UNWRITTEN, _USAGE, _INTERRUPTED = 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; 130 after Ctrl-C, 1 where its output cannot be written.

    Wrong usage is 2; what argparse finds raises SystemExit(2). ``argv``: the arguments without the program's name;
    None: those of the process.
    """
    # Where a shell has closed stderr, Python has None in its place, and print() would take stdout instead.
    with (
        Path(os.devnull).open("w", encoding="utf-8") as nowhere,
        redirect_stderr(sys.stderr or nowhere),
    ):
        try:
            return _run(argv)
        except KeyboardInterrupt:
            return _INTERRUPTED
        except OSError as error:
            if not isinstance(error, BrokenPipeError):  # then who read our output has left
                print(f"resilient-requests: {in_words(error)}", file=sys.stderr)
            # Python flushes stdout once more at exit, which must not fail aloud.
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
            return _UNWRITTEN


def _run(argv: Sequence[str] | None) -> int:
    if sys.stdout is None:
        print("resilient-requests: stdout is closed", file=sys.stderr)
        return _USAGE
    parser = argparse.ArgumentParser(
        prog="resilient-requests", description="Calls through bad networks to slow streaming APIs."
    )
    parser.add_argument(
        "--version", action="version", version=f"%(prog)s {metadata.version('resilient_requests')}"
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in _COMMANDS:
        command.add_parser(commands)
    arguments = parser.parse_args(argv)
    code: int = arguments.run(arguments)
    sys.stdout.flush()
    return code
