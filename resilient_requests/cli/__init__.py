"""The command line: ``resilient-requests COMMAND``."""

from __future__ import annotations

import argparse
import os
import sys
from importlib import metadata
from typing import TYPE_CHECKING

from resilient_requests.cli import chat, demo, probe

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

# Each has ``add_parser(commands)``, which sets ``run``: a callable that takes the arguments and returns an exit code.
_COMMANDS = (demo, chat, probe)
_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; 130 after Ctrl-C. Wrong usage raises SystemExit(2), as argparse does.

    ``argv``: the arguments without the program's name; None: those of the process.
    """
    parser = argparse.ArgumentParser(
        prog="resilient-requests", description="Calls through bad networks to slow streaming APIs."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {metadata.version('resilient_requests')}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in _COMMANDS:
        command.add_parser(commands)
    arguments = parser.parse_args(argv)
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # Who read our output has left. Python flushes stdout once more at exit, which must not fail aloud.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code
