"""Shows progress on stderr, and the rows as a table on stdout: with rich on a terminal, else as plain text."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING, Any, Protocol

from resilient_requests.cli._terminal import rich_console

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from resilient_requests.cli.demo._rows import Row
    from resilient_requests.cli.demo._stage import Outcome

__all__ = ["Progress", "progress", "show"]

_WIDTH = 80
_VERDICTS = {True: "as promised", False: "NOT AS PROMISED", None: "skipped"}


class Progress(Protocol):
    """Told how far the demonstration has come."""

    def started(self, title: str) -> None: ...
    def finished(self, as_promised: bool | None) -> None: ...


@contextlib.contextmanager
def progress(count: int) -> Iterator[Progress]:
    """Show progress on stderr: a spinner on a terminal with rich, else a line per incident."""
    rich = rich_console(sys.stderr)
    if rich is None:
        yield _Lines(count)
        return
    with rich.status("") as status:
        yield _Spinner(count, rich, status)


class _Lines:
    def __init__(self, count: int) -> None:
        self._count = count
        self._number = 0
        self._since = 0.0

    def started(self, title: str) -> None:
        self._number += 1
        self._since = time.monotonic()
        print(f"[{self._number}/{self._count}] {title}", file=sys.stderr, flush=True)

    def finished(self, as_promised: bool | None) -> None:
        seconds = time.monotonic() - self._since
        print(f"      {_VERDICTS[as_promised]}, {seconds:.1f} s", file=sys.stderr, flush=True)


class _Spinner:
    def __init__(self, count: int, console: Any, status: Any) -> None:
        self._count = count
        self._number = 0
        self._title = ""
        self._console = console
        self._status = status

    def started(self, title: str) -> None:
        self._number += 1
        self._title = title
        self._status.update(f"[dim]{self._number}/{self._count}[/]  {title}")

    def finished(self, as_promised: bool | None) -> None:
        self._console.print(f" {_MARKS[as_promised]} {self._title}")


_MARKS = {True: "[green]✓[/]", False: "[bold red]✗[/]", None: "[dim]-[/]"}


def show(rows: Sequence[Row]) -> None:
    """Print the rows."""
    rich = rich_console(sys.stdout)
    if rich is None:
        print("\n".join(_lines(rows)))
    else:
        rich.print(_rich_table(rows))
    kept = sum(row.as_promised is True for row in rows)
    skipped = sum(row.as_promised is None for row in rows)
    print(
        f"{kept} of {len(rows) - skipped} as promised" + (f", {skipped} skipped" if skipped else "")
    )


def _lines(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the table as plain text, 80 columns wide and ASCII: what happened, then a line for either client."""
    yield f"{'':<54}{'seconds':>8}{'seen':>8}{'applied':>10}"
    yield "-" * _WIDTH
    for row in rows:
        yield row.incident
        yield _line("plain", row.plain)
        yield _line("ours", row.resilient) + (
            "" if row.as_promised is not False else "  <- NOT AS PROMISED"
        )
    yield "-" * _WIDTH
    yield "seen: requests that the server read; applied: requests that it acted upon"


def _line(name: str, outcome: Outcome) -> str:
    return f"  {name:<7}{outcome.outcome:<45}{outcome.seconds:>8.2f}{outcome.requests:>8}{outcome.applied:>10}"


def _rich_table(rows: Sequence[Row]) -> Any:
    from rich import box, table  # optional: the extra `cli`

    grid = table.Table(
        box=box.ROUNDED,
        show_lines=True,
        padding=(0, 1),
        caption="seen: requests that the server read; applied: requests that it acted upon",
    )
    grid.add_column("")
    grid.add_column("What happened", ratio=4)
    grid.add_column("Plain requests", ratio=4)
    grid.add_column("With ResilientAdapter", ratio=4)
    for row in rows:
        style = {True: "green", False: "bold red", None: "dim"}[row.as_promised]
        grid.add_row(
            _MARKS[row.as_promised],
            row.incident,
            _cell(row.plain, "yellow"),
            _cell(row.resilient, style),
        )
    return grid


def _cell(outcome: Outcome, style: str) -> str:
    facts = f"{outcome.seconds:.2f} s, {outcome.requests} seen, {outcome.applied} applied"
    return f"[{style}]{outcome.outcome}[/]\n[dim]{facts}[/]"
