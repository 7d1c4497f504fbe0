"""Rounds: all contenders once each, in a fresh random order, the first round thrown away."""

from __future__ import annotations

import json
import os
import random
import subprocess
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from benchmarks.measures import Measure, Sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["Results", "compare", "upstream"]

ROOT = Path(__file__).resolve().parent.parent
_FOREIGN = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")

Results = list[dict[str, Sample]]
"""For each round, the sample of each contender's run."""


class _Process:
    """A child that reads and writes lines."""

    def __init__(self, python: str, module: str, *arguments: str) -> None:
        # Otherwise proxies and certificates of the environment would be measured, too.
        environment = {
            name: value
            for name, value in os.environ.items()
            if name not in _FOREIGN and not name.lower().endswith("_proxy")
        }
        self._child = subprocess.Popen(
            [python, "-m", module, *arguments],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._stdin: IO[str] = self._child.stdin
        self._stdout: IO[str] = self._child.stdout

    def read(self) -> dict[str, Any]:
        line = self._stdout.readline()
        if not line:
            raise RuntimeError(f"a child process failed: {self._child.args!r}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self) -> dict[str, Any]:
        self._stdin.write("go\n")
        self._stdin.flush()
        return self.read()

    def close(self) -> None:
        self._stdin.close()
        self._stdout.close()
        try:
            self._child.wait(5)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()


@contextmanager
def upstream(python: str) -> Iterator[dict[str, Any]]:
    """Run the upstream; the value says where it listens."""
    process = _Process(python, "benchmarks.upstream")
    try:
        where = process.read()
        yield {"http": where["http"], "https": where["https"] or 0, "bundle": where["bundle"] or ""}
    finally:
        process.close()


def compare(
    measure: Measure,
    names: Iterable[str],
    where: dict[str, Any],
    *,
    python: str,
    rounds: int,
    step: Callable[[str], object],
) -> Results:
    """Run a measure with the contenders of these names; ``step`` is told of each run."""
    results: Results = []
    with ExitStack() as stack:
        kept: dict[str, _Process] = {}
        for name in names:
            process = _Process(python, "benchmarks.client", measure.name, name, json.dumps(where))
            if "missing" in process.read():
                process.close()
            else:
                stack.callback(process.close)
                kept[name] = process
        for number in range(rounds + 1):
            found: dict[str, Sample] = {}
            for name in random.sample(list(kept), len(kept)):
                step(f"{measure.name}: round {number}/{rounds}, {name}")
                found[name] = _once(measure, name, kept[name], where, python)
            if number > 0:
                results.append(found)
    return results


def _once(
    measure: Measure, name: str, kept: _Process, where: dict[str, Any], python: str
) -> Sample:
    if not measure.is_fresh:
        return kept.ask()
    process = _Process(python, "benchmarks.client", measure.name, name, json.dumps(where))
    try:
        process.read()
        return process.ask()
    finally:
        process.close()
