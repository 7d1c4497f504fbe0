"""Runs the connections of a probe in parallel, and tries more where they narrow the limit down."""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from resilient_requests.call import now
from resilient_requests.cli._words import in_words
from resilient_requests.cli.probe import _ladder
from resilient_requests.cli.probe._line import BROKEN, Finding, Line, Result
from resilient_requests.cli.probe._verdict import Rung, bracket

if TYPE_CHECKING:
    from collections.abc import Iterable

    from resilient_requests.cli.probe._line import Facts
    from resilient_requests.cli.probe._target import Target
    from resilient_requests.transport import TCPKeepAlive

__all__ = ["Climb", "Plan", "Watcher", "plan"]

_TICK = 0.1
_LEAVE = 1.0
_SUSPECT = frozenset({Result.RESET, Result.BLACK_HOLE, Result.RESET_IDLE})


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The idle times to try, in seconds, how long an answer is awaited, and the keep-alive settings to compare."""

    idle_times: tuple[float, ...]
    answer_limit: float
    probes: TCPKeepAlive


def plan(idle_times: tuple[float, ...], fresh: Facts) -> Plan:
    """Return what to do, from what a fresh connection has shown."""
    longest = max(idle_times)
    return Plan(
        idle_times=tuple(sorted(idle_times)),
        answer_limit=_ladder.answer_limit(fresh.request, longest),
        probes=_ladder.probes(longest),
    )


class Watcher(Protocol):
    """Told how far a probe has come, by the thread that runs it."""

    def started(self, rung: Rung) -> None: ...
    def tick(self) -> None: ...
    def finished(self, rung: Rung) -> None: ...


class Climb:
    """One run; used once, by one thread. Each connection has a thread of its own, which reports through a queue."""

    def __init__(self, target: Target, plan: Plan, watcher: Watcher) -> None:
        self._target = target
        self._plan = plan
        self._watcher = watcher
        self._stop = threading.Event()
        self._done: queue.SimpleQueue[Rung | BaseException] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._lines: list[Line] = []
        self._running: set[tuple[float, bool]] = set()
        self._rungs: list[Rung] = []
        self._has_refined = False

    def run(self) -> list[Rung]:
        """Return what became of each connection, by idle time; takes less than twice the longest."""
        plan = self._plan
        times = plan.idle_times
        try:
            self._start(times)
            self._start((each for each in times if each > plan.probes.idle), probed=True)
            # A limit found by the last rung must not double the time: the gap below it is narrowed down at once.
            last_but_one = times[-2] if len(times) > 1 else 0.0
            self._start(_ladder.between(last_but_one, times[-1]), refined=True)
            while self._running:
                self._collect()
                self._refine()
        finally:
            self._end()
        return sorted(self._of_use(), key=lambda each: each.idle)

    def _start(
        self, times: Iterable[float], *, refined: bool = False, probed: bool = False
    ) -> None:
        for idle in times:
            rung = Rung(
                idle=idle, finding=Finding(result=Result.NOT_OPENED), refined=refined, probed=probed
            )
            line = Line(self._target, self._plan.probes if probed else None)
            thread = threading.Thread(
                target=self._work, args=(rung, line), name=f"probe {idle:g} s", daemon=True
            )
            self._lines.append(line)
            self._threads.append(thread)
            self._running.add((idle, probed))
            self._watcher.started(rung)
            thread.start()

    def _collect(self) -> None:
        try:
            rung = self._done.get(timeout=_TICK)
        except queue.Empty:
            self._watcher.tick()
            return
        if isinstance(rung, BaseException):
            raise rung
        self._running.discard((rung.idle, rung.probed))
        self._rungs.append(rung)
        self._watcher.finished(rung)

    def _refine(self) -> None:
        """Narrow the limit down, once, as soon as it is known between which rungs it lies."""
        plain = [each for each in self._rungs if not each.probed and not each.refined]
        good, bad = bracket(plain)
        is_known = bad is not None and all(probed or idle > bad for idle, probed in self._running)
        if bad is None or self._has_refined or not is_known:
            return
        self._has_refined = True
        if bad < self._plan.idle_times[-1]:
            self._start(_ladder.between(good, bad), refined=True)

    def _of_use(self) -> list[Rung]:
        """Return the rungs without those that were tried in advance where there turned out to be no limit."""
        times = self._plan.idle_times
        top = times[-2] if len(times) > 1 else 0.0
        _, bad = bracket([each for each in self._rungs if not each.probed])
        is_limit = bad is not None and bad > top
        return [each for each in self._rungs if is_limit or not each.refined or each.idle < top]

    # -- in the thread of a connection ------------------------------------------------------------------------------

    def _work(self, rung: Rung, line: Line) -> None:
        try:
            self._done.put(self._climbed(rung, line))
        except BaseException as error:  # noqa: BLE001  # raised in the thread that waits
            self._done.put(error)
        finally:
            line.close()

    def _climbed(self, rung: Rung, line: Line) -> Rung:
        try:
            facts = line.open()
        except BROKEN as error:
            return replace(rung, finding=Finding(result=Result.NOT_OPENED, error=in_words(error)))
        if not facts.is_kept:
            return replace(rung, finding=Finding(result=Result.NOT_KEPT))
        since = now()
        if self._stop.wait(rung.idle):
            return rung
        # A machine that slept meanwhile has left the connection idle for longer than this rung stands for.
        finding = line.look() or line.reuse(self._plan.answer_limit)
        if since.age(now()) > 2 * (rung.idle + self._plan.answer_limit):
            return replace(
                rung, finding=Finding(result=Result.NOT_OPENED, error="the machine was asleep")
            )
        return self._controlled(replace(rung, finding=finding))

    def _controlled(self, rung: Rung) -> Rung:
        """Blame idleness only where a fresh connection fares better at the same moment."""
        if rung.result not in _SUSPECT or self._stop.is_set():
            return rung
        control = Line(self._target)
        try:
            facts = control.open()
        except BROKEN as error:
            return replace(
                rung, finding=Finding(result=Result.CONTROL_FAILED, error=in_words(error))
            )
        finally:
            control.close()
        return replace(rung, control=facts.connect + facts.request)

    def _end(self) -> None:
        self._stop.set()
        for line in self._lines:
            line.abandon()
        for thread in self._threads:
            thread.join(_LEAVE)  # one that still dials after Ctrl-C is left behind
