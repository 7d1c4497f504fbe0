"""``resilient-requests run PROGRAM``: a Python program with the adapter in all its sessions."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from resilient_requests.cli._arguments import UsageError
from resilient_requests.cli.run._program import Program

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

__all__ = ["NAME", "Program", "add_parser", "run", "split"]

NAME = "run"
_USAGE = 2


def add_parser(commands: Any) -> None:
    """Add the command to argparse's subcommands."""
    parser = commands.add_parser(
        NAME,
        help="run a Python program with the adapter in all of its sessions",
        description="Runs PROGRAM as python would, in this process, after install(): each session "
        "and HTTPAdapter that it makes has the adapter, in any package. The variables "
        "RESILIENT_REQUESTS_* are the settings. Forked children have it too; a program that starts "
        "Python anew, or patches with gevent, calls install() itself. Exit code: that of PROGRAM; "
        "2 wrong usage.",
    )
    add = parser.add_argument
    add("-m", dest="is_module", action="store_true", help="PROGRAM is a module, as for python -m")
    program = "a script, a directory or zip file with a __main__.py, or a command on the PATH"
    add("program", metavar="PROGRAM", help=program).completer = _files
    add("arguments", metavar="...", nargs="...", help="the arguments of PROGRAM, options included")
    parser.set_defaults(run=run)


def split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return a command line up to PROGRAM, and the arguments that follow it.

    argparse must not see the latter: it does not know the program's options, and it drops the
    first ``--``.
    """
    words = list(argv)
    if words[:1] != [NAME]:
        return words, []
    end = next((at for at, word in enumerate(words) if at and word[:1] != "-"), len(words))
    return words[: end + 1], words[end + 1 :]


def run(arguments: argparse.Namespace) -> int | Program:
    """Return the program, or the exit code where there is none to run."""
    try:
        following = [*arguments.arguments, *arguments.following]
        return Program(arguments.program, following, is_module=arguments.is_module)
    except UsageError as error:
        print(f"resilient-requests run: {error}", file=sys.stderr)
        return _USAGE


def _files(prefix: str, **_: object) -> Any:
    """Return the names of files, for a shell that completes one."""
    from argcomplete.completers import FilesCompleter  # optional: the extra `cli`

    return FilesCompleter()(prefix)
