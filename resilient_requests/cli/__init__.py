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
from resilient_requests.cli._output import in_words

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

# Each has ``add_parser(commands)``, which sets the default ``run``: a callable that takes the
# arguments and returns an exit code.
_COMMANDS = (demo, chat, probe)
_UNWRITTEN, _USAGE, _INTERRUPTED = 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    The code is 130 after Ctrl-C, 1 where the output cannot be written, and 2 for wrong usage, for
    which argparse raises SystemExit(2). ``argv``: the arguments without the program's name; None:
    those of the process.
    """
    # Where a shell has closed stderr, Python has None in its place, and print() writes to stdout.
    with (
        Path(os.devnull).open("w", encoding="utf-8") as nowhere,
        redirect_stderr(sys.stderr or nowhere),
    ):
        try:
            return _run(argv)
        except KeyboardInterrupt:
            return _INTERRUPTED
        except OSError as error:
            # Python flushes stdout once more at exit, and would print a traceback.
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
            return _unwritten(error)


def _run(argv: Sequence[str] | None) -> int:
    if sys.stdout is None:
        print("resilient-requests: stdout is closed", file=sys.stderr)
        return _USAGE
    parser = _parser()
    _complete(parser)
    try:
        arguments = parser.parse_args(argv)
        if arguments.run is None:
            parser.exit(_USAGE, parser.format_help())
        code: int = arguments.run(arguments)
    finally:
        # Here a failure is an OSError like any other; at exit Python would print a traceback.
        sys.stdout.flush()
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="resilient-requests",
        description="Calls through bad networks to slow streaming APIs.",
        epilog="Begin with the demo. COMMAND --help tells more.",
    )
    version = f"%(prog)s {metadata.version('resilient_requests')}"
    parser.add_argument("--version", action="version", version=version)
    parser.set_defaults(run=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for command in _COMMANDS:
        command.add_parser(commands)
    return parser


def _complete(parser: argparse.ArgumentParser) -> None:
    """Answer a shell that wants a word completed, and leave; do nothing for anybody else."""
    if "_ARGCOMPLETE" not in os.environ:
        return
    try:
        from argcomplete import autocomplete, completers  # optional: the extra `cli`
    except ImportError:
        return
    # Without a completer of its own an argument would be offered the names of files.
    autocomplete(parser, default_completer=completers.SuppressCompleter())


def _unwritten(error: OSError) -> int:
    # Ctrl-C ends the other commands of a pipe too, so that the last flush fails behind it.
    if isinstance(error.__context__, KeyboardInterrupt):
        return _INTERRUPTED
    # A broken pipe means that the reader has left: nobody is there to be told.
    if not isinstance(error, BrokenPipeError):
        print(f"resilient-requests: {in_words(error)}", file=sys.stderr)
    return _UNWRITTEN
