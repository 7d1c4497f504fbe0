"""The command line: ``resilient-requests COMMAND``."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import redirect_stderr
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from resilient_requests.cli import chat, demo, probe, run
from resilient_requests.cli._output import in_words

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

# Each has ``add_parser(commands)``, which sets the default ``run``: a callable that takes the
# arguments and returns an exit code, or the program to run.
_COMMANDS = (demo, chat, probe, run)
_UNWRITTEN, _USAGE, _INTERRUPTED = 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    The code is 130 after Ctrl-C, 1 if the output cannot be written, and 2 for wrong usage, for
    which argparse raises SystemExit(2). ``argv``: the arguments without the program's name; None:
    those of the process. For `run` the program decides: its return value and its errors pass.
    """
    done = _run(argv)
    # Python handles the program's errors, output and Ctrl-C as if it had started the program.
    return done.run() if isinstance(done, run.Program) else done


def _run(argv: Sequence[str] | None) -> int | run.Program:
    # If a shell has closed stderr, Python's is None, and print() would write to stdout.
    with (
        Path(os.devnull).open("w", encoding="utf-8") as nowhere,
        redirect_stderr(sys.stderr or nowhere),
    ):
        try:
            return _obey(argv)
        except KeyboardInterrupt:
            return _INTERRUPTED
        except OSError as error:
            # Python flushes stdout once more at exit, and would print a traceback if that fails.
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
            return _unwritten(error)


def _obey(argv: Sequence[str] | None) -> int | run.Program:
    words, following = run.split(sys.argv[1:] if argv is None else argv)
    if sys.stdout is None and words[:1] != [run.NAME]:
        print("resilient-requests: stdout is closed", file=sys.stderr)
        return _USAGE
    parser = _parser()
    _complete(parser)
    try:
        arguments = parser.parse_args(words, argparse.Namespace(following=following))
        if arguments.run is None:
            parser.exit(_USAGE, parser.format_help())
        done: int | run.Program = arguments.run(arguments)
    finally:
        # A failure here is an ordinary OSError; at exit Python would print a traceback.
        if sys.stdout is not None:
            sys.stdout.flush()
    return done


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
    """Complete a word for a shell that asks for it, and exit; otherwise do nothing."""
    if "_ARGCOMPLETE" not in os.environ:
        return
    try:
        from argcomplete import autocomplete, completers  # optional: the extra `cli`
    except ImportError:
        return
    # Without a completer argcomplete offers the names of files for an argument.
    autocomplete(parser, default_completer=completers.SuppressCompleter())


def _unwritten(error: OSError) -> int:
    # Ctrl-C ends the other commands of a pipe too, and then the last flush fails.
    if isinstance(error.__context__, KeyboardInterrupt):
        return _INTERRUPTED
    # A broken pipe means that the reader has left: nobody would see a message.
    if not isinstance(error, BrokenPipeError):
        print(f"resilient-requests: {in_words(error)}", file=sys.stderr)
    return _UNWRITTEN
