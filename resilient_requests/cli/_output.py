"""The output of the commands: errors in one line, styled lines, and progress."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol, TextIO, TypeAlias

import requests

from resilient_requests.call import causes, describe

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "Line",
    "Progress",
    "in_words",
    "progress",
    "rich_console",
    "show",
]

Line: TypeAlias = Iterable[tuple[str, str]]
"""Pieces of one line, each with rich's name for its style."""

_USERINFO = re.compile(r"//[^/\s]*@")
_QUERY = re.compile(r"\?[^\s'\")]+")
_LONGEST = 300


def in_words(error: BaseException) -> str:
    """Return an error as one line, without credentials and queries.

    The line holds the error's class, the name of the errno and the system's message.
    """
    for each in causes(error):
        # The last OSError of the chain has the message of a failed dial or handshake.
        if (
            isinstance(each, OSError)
            and each.strerror
            and not isinstance(each, requests.RequestException)
        ):
            return f"{describe(each)}: {each.strerror}"
    if isinstance(error, ValueError):
        # The text of this error repeats the URL. The URL could not be parsed: the end of its
        # password is unknown.
        return f"{describe(error)}: the URL, or that of a proxy, cannot be used"
    text = _USERINFO.sub("//", str(error)).splitlines() or [""]
    return f"{describe(error)}: {_QUERY.sub('?…', text[0])[:_LONGEST]}"


def rich_console(stream: TextIO) -> Any:
    """Return a rich console; None where ``stream`` is no terminal, or rich is not installed."""
    if not stream.isatty():
        return None
    try:
        from rich.console import Console  # optional: the extra `cli`
    except ImportError:
        return None
    return Console(file=stream, highlight=False)


def show(lines: Iterable[Line]) -> None:
    """Print lines on stdout, styled on a terminal. The terminal wraps long lines."""
    console = rich_console(sys.stdout)
    for line in lines:
        if console is None:
            print("".join(text for text, _ in line).rstrip())
        else:
            from rich.text import Text  # optional: the extra `cli`

            console.print(Text.assemble(*line), soft_wrap=True)


class Progress(Protocol):
    """How far a command has come; used by one thread."""

    def at(self, done: float, total: float, text: str) -> None:
        """Show the share ``done`` of ``total``, and the present step."""

    def note(self, text: str, style: str = "") -> None:
        """Show an event in a line that stays."""


@contextlib.contextmanager
def progress() -> Iterator[Progress]:
    """Show progress on stderr: a bar under the notes where rich can draw it, else the notes."""
    console = rich_console(sys.stderr)
    if console is None:
        yield _Notes()
        return
    from rich import progress  # optional: the extra `cli`

    columns = (
        progress.BarColumn(bar_width=20),
        progress.TextColumn("{task.description}", markup=False),
    )
    with progress.Progress(*columns, console=console, transient=True) as bar:
        yield _Bar(bar)


class _Notes:
    def at(self, done: float, total: float, text: str) -> None:
        pass

    def note(self, text: str, style: str = "") -> None:  # noqa: ARG002  # plain text has none
        print(text, file=sys.stderr, flush=True)


class _Bar:
    def __init__(self, bar: Any) -> None:
        self._bar = bar
        self._task = bar.add_task("", total=None)

    def at(self, done: float, total: float, text: str) -> None:
        self._bar.update(self._task, completed=done, total=total, description=text)

    def note(self, text: str, style: str = "") -> None:
        self._bar.console.print(text, style=style or None, markup=False)
