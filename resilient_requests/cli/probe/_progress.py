"""Shows on stderr how far a probe has come: bars on a terminal with rich, else a line per rung."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

from resilient_requests.call import Instant, now
from resilient_requests.cli._terminal import rich_console
from resilient_requests.cli.probe._line import Result
from resilient_requests.cli.probe._report import label

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resilient_requests.cli.probe._climb import Watcher
    from resilient_requests.cli.probe._verdict import Rung

__all__ = ["watcher"]


@contextlib.contextmanager
def watcher() -> Iterator[Watcher]:
    """Yield what shows the progress."""
    console = rich_console(sys.stderr)
    if console is None:
        yield _Lines()
        return
    from rich import progress  # optional: the extra `cli`

    columns = (
        progress.TextColumn("{task.description:<24}"),
        progress.BarColumn(),
        progress.TextColumn("{task.fields[said]}"),
    )
    with progress.Progress(*columns, console=console, transient=True) as bars:
        yield _Bars(bars)


class _Lines:
    def started(self, rung: Rung) -> None:
        pass

    def tick(self) -> None:
        pass

    def finished(self, rung: Rung) -> None:
        print(f"idle {label(rung)}: {rung.result.value}", file=sys.stderr, flush=True)


class _Bars:
    def __init__(self, bars: Any) -> None:
        self._bars = bars
        self._tasks: dict[tuple[float, bool], tuple[Any, Instant]] = {}

    def started(self, rung: Rung) -> None:
        task = self._bars.add_task(label(rung), total=rung.idle, said="[dim]idle")
        self._tasks[rung.idle, rung.probed] = task, now()

    def tick(self) -> None:
        at = now()
        for task, since in self._tasks.values():
            self._bars.update(task, completed=since.age(at))

    def finished(self, rung: Rung) -> None:
        task, _ = self._tasks.pop((rung.idle, rung.probed))
        colour = "green" if rung.result is Result.REUSED else "red" if rung.is_bad else "yellow"
        self._bars.update(task, completed=rung.idle, said=f"[{colour}]{rung.result.value}")
