"""The command line of the benchmarks."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parent.parent
if __package__ in (
    None,
    "",
):  # started as a file: its own directory would hide modules of the same names
    sys.path[0] = str(ROOT)

from benchmarks import peers  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Run the measures that were asked for; return the exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    options = _options(given)
    if options.install:
        peers.install(options.venv)
    python = peers.python_of(options.venv)
    if python != sys.executable and arguments is None and not _is_inside(options.venv):
        # The code from here on runs in the peers' environment, so no other one needs its imports.
        rest = [each for each in given if each != "--install"]
        os.chdir(ROOT)
        os.execv(python, [python, "-m", "benchmarks", *rest])
    return _run(options)


def _is_inside(environment: Path) -> bool:
    return Path(sys.prefix).resolve() == environment.resolve()


def _options(given: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Ratios of CPU time, paired by round."
    )
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="measures, or beginnings of their names (default: all)",
    )
    parser.add_argument(
        "--rounds", type=int, default=15, help="rounds that count (default: %(default)s)"
    )
    parser.add_argument(
        "--contenders", metavar="NAME,NAME", help="only these of each measure's (default: all)"
    )
    parser.add_argument(
        "--page", type=Path, help="also write this page of the documentation, or what ran of it"
    )
    parser.add_argument(
        "--install", action="store_true", help="first make, or update, the environment of the peers"
    )
    parser.add_argument(
        "--list", action="store_true", help="print the names of the measures, and stop"
    )
    parser.add_argument(
        "--venv",
        type=lambda path: Path(path).absolute(),
        default=ROOT / ".benchmarks-venv",
        help="where the peers are installed (default: %(default)s)",
    )
    options = parser.parse_args(given)
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    if options.page is not None:
        options.page = options.page.absolute()
    return options


def _run(options: argparse.Namespace) -> int:
    # Here, since this environment may have been made a moment ago.
    from benchmarks import report, rounds
    from benchmarks.measures import MEASURES

    if options.list:
        print("\n".join(f"{name:16} {measure.title}" for name, measure in MEASURES.items()))
        return 0
    unknown = [
        each for each in options.names if not any(name.startswith(each) for name in MEASURES)
    ]
    if unknown:
        print(f"no measure is called {' or '.join(unknown)}: see --list", file=sys.stderr)
        return 2
    chosen = [
        measure for name, measure in MEASURES.items() if name.startswith(tuple(options.names) or "")
    ]
    only = options.contenders and frozenset(options.contenders.split(","))
    if only and not only <= {name for measure in chosen for name in measure.contenders}:
        print(
            f"not all of --contenders {options.contenders} take part: see the directory contenders",
            file=sys.stderr,
        )
        return 2
    print(report.facts())
    sections = []
    with rounds.upstream(sys.executable) as where:
        for measure in chosen:
            count = min(options.rounds, measure.most_rounds)
            names = [name for name in measure.contenders if not only or name in only]
            with _progress(measure.name, (count + 1) * len(names)) as step:
                results = rounds.compare(
                    measure, names, where, python=sys.executable, rounds=count, step=step
                )
            if not results[0]:
                print(f"\n{measure.name}: nothing that is needed for it is installed")
                continue
            sections.append((measure, results))
            print(f"\n{measure.name}: {measure.title}")
            _print(report.goals_table(report.figures(measure, results)))
            _print(report.contenders_table(measure, results))
    if options.page is not None:
        before = options.page.read_text(encoding="utf-8") if options.page.exists() else ""
        options.page.write_text(report.page(sections, MEASURES.values(), before), encoding="utf-8")
    return 0


def _print(rows: list[list[str]]) -> None:
    if not rows:
        return
    print()
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print(
            "  "
            + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )


@contextmanager
def _progress(name: str, runs: int) -> Iterator[Callable[[str], Any]]:
    """Show each run: a bar where rich is installed and somebody watches, else a line per round."""
    try:
        from rich.progress import Progress
    except ImportError:
        is_bar = False
    else:
        is_bar = sys.stderr.isatty()
    if not is_bar:
        yield _Lines()
        return
    from rich.console import Console

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(name, total=runs)
        yield lambda text: progress.update(task, advance=1, description=text)


class _Lines:
    """A line per round."""

    def __init__(self) -> None:
        self._said = ""

    def __call__(self, text: str) -> None:
        told = text.partition(",")[0]
        if told != self._said:
            self._said = told
            print(told, file=sys.stderr)


if __name__ == "__main__":
    raise SystemExit(main())
