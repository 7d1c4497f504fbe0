"""Runs the connections of a probe in parallel, on a schedule that narrows down the limit."""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from resilient_requests.call import Instant, boot, now
from resilient_requests.cli._output import in_words
from resilient_requests.cli.probe._connection import BROKEN, Finding, ProbeConnection, Result
from resilient_requests.transport import TCPKeepAlive

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from resilient_requests.cli._output import Progress
    from resilient_requests.cli.probe._connection import Target

__all__ = ["ProbeRun", "Sample", "Schedule", "between", "bracket", "idle_times", "schedule"]

_USUAL = (1, 2, 5, 10, 20, 30, 45, 60, 90, 120, 180, 300)
_POINTS = 4
# A limit below the last time but one waits until it is known before it is narrowed down. The gap
# below the last time leaves room for that: the whole ends in less than twice the last time.
_NEXT_TO_LAST = 0.75
_TICK = 0.1
_LEAVE = 1.0
_UNUSABLE = frozenset({Result.RESET, Result.BLACK_HOLE, Result.RESET_IDLE})


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A connection that was idle for ``idle`` seconds, and its fate.

    ``refined``: this idle time narrows down the limit. ``kept_alive``: TCP keep-alive was on.
    ``control``: seconds for a fresh connection and its answer, if one was tried.
    """

    idle: float
    finding: Finding
    refined: bool = False
    kept_alive: bool = False
    control: float | None = None

    @property
    def result(self) -> Result:
        """The result of its last use."""
        return self.finding.result

    @property
    def is_bad(self) -> bool:
        """True if the idle time has cost the connection."""
        return self.result in _UNUSABLE or self.result is Result.CLOSED

    def __str__(self) -> str:
        """The idle time, in words for people."""
        return f"{self.idle:g} s" + (" with TCP keep-alive" if self.kept_alive else "")


def bracket(samples: Sequence[Sample]) -> tuple[float, float | None]:
    """Return the idle times on both sides of the limit: the last good one, the first bad one.

    If there is no such time, the first is 0, the second None.
    """
    bad = min((each.idle for each in samples if each.is_bad), default=None)
    good = (
        each.idle
        for each in samples
        if each.result is Result.REUSED and (bad is None or each.idle < bad)
    )
    return max(good, default=0.0), bad


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The plan of a probe: idle times in seconds, ascending; the limit of waiting for an answer.

    ``keepalive``: the settings of the connections that have TCP keep-alive on.
    """

    idle_times: tuple[float, ...]
    answer_limit: float
    keepalive: TCPKeepAlive


def idle_times(longest: float) -> tuple[float, ...]:
    """Return the usual idle times below ``longest``, and ``longest`` itself, in seconds."""
    return (*(float(each) for each in _USUAL if each <= _NEXT_TO_LAST * longest), longest)


def between(good: float, bad: float) -> tuple[float, ...]:
    """Return the idle times that narrow down a limit between the two."""
    step = (bad - good) / (_POINTS + 1)
    return tuple(round(good + step * number, 3) for number in range(1, _POINTS + 1))


def schedule(times: Iterable[float], usual: float) -> Schedule:
    """Return the plan; ``usual``: seconds until a fresh connection gets its answer."""
    ascending = tuple(sorted(set(times)))
    longest = ascending[-1]
    own = TCPKeepAlive()
    # The adapter's own settings, or faster ones if the longest time is too short for them.
    idle = max(min(own.idle, int(longest / 8)), 1)
    interval = max(min(own.interval, idle // 3), 1)
    return Schedule(
        idle_times=ascending,
        # Two seconds leave room for three TCP retransmissions. A quarter of the longest time keeps
        # the whole short.
        answer_limit=min(max(10 * usual, 2.0), 10.0, max(longest / 4, 1.0)),
        keepalive=TCPKeepAlive(idle=idle, interval=interval),
    )


class ProbeRun:
    """One run; used once, by one thread.

    Each connection has a thread of its own, which reports through a queue.
    """

    def __init__(self, target: Target, schedule: Schedule) -> None:
        self._target = target
        self._schedule = schedule
        self._stop = threading.Event()
        self._done: queue.SimpleQueue[Sample | BaseException] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._connections: list[ProbeConnection] = []
        self._running: dict[tuple[float, bool], Instant] = {}
        self._samples: list[Sample] = []
        self._has_refined = False

    def run(self, progress: Progress) -> None:
        """Try all connections; takes less than twice the longest idle time.

        Raises KeyboardInterrupt after Ctrl-C, once all connections are closed; `samples` then
        returns the finished ones.
        """
        times = self._schedule.idle_times
        since = now()
        try:
            self._start(times)
            kept_alive = (each for each in times if each > self._schedule.keepalive.idle)
            self._start(kept_alive, kept_alive=True)
            # If only the longest time finds the limit, narrowing it down afterwards would double
            # the duration. So the gap below the longest time is narrowed down from the beginning.
            self._start(between(self._last_but_one, times[-1]), refined=True)
            while self._running:
                self._collect(progress)
                self._refine()
                elapsed, left = since.age(now()), self._left()
                progress.at(elapsed, elapsed + left, f"about {left:.0f} s left")
        finally:
            self._end()

    def samples(self) -> list[Sample]:
        """Return the finished connections, by idle time."""
        _, bad = bracket([each for each in self._samples if not each.kept_alive])
        top = self._last_but_one
        # The times just below the longest one were tried in advance. They count only if the limit
        # is among them, or if the result of the longest one is unknown.
        longest = self._schedule.idle_times[-1]
        is_known = any(each.idle == longest and not each.kept_alive for each in self._samples)
        is_of_use = bad > top if bad is not None else not is_known
        found = (each for each in self._samples if is_of_use or not each.refined or each.idle < top)
        return sorted(found, key=lambda each: each.idle)

    @property
    def _last_but_one(self) -> float:
        times = self._schedule.idle_times
        return times[-2] if len(times) > 1 else 0.0

    def _left(self) -> float:
        """Return the seconds until the last running connection is used, as known now."""
        at = now()
        ends = (idle - since.age(at) for (idle, _), since in self._running.items())
        return max(max(ends, default=0.0), 0.0)

    def _start(
        self, times: Iterable[float], *, refined: bool = False, kept_alive: bool = False
    ) -> None:
        for idle in times:
            nothing = Finding(result=Result.NOT_OPENED)
            sample = Sample(idle=idle, finding=nothing, refined=refined, kept_alive=kept_alive)
            keepalive = self._schedule.keepalive if kept_alive else None
            connection = ProbeConnection(self._target, keepalive)
            thread = threading.Thread(
                target=self._work, args=(sample, connection), name=f"probe {idle:g} s", daemon=True
            )
            self._connections.append(connection)
            self._threads.append(thread)
            self._running[idle, kept_alive] = now()
            thread.start()

    def _collect(self, progress: Progress) -> None:
        try:
            sample = self._done.get(timeout=_TICK)
        except queue.Empty:
            return
        if isinstance(sample, BaseException):
            raise sample
        del self._running[sample.idle, sample.kept_alive]
        self._samples.append(sample)
        style = "green" if sample.result is Result.REUSED else "red" if sample.is_bad else "yellow"
        left = round(self._left())
        eta = f", about {left} s left" if left else ""
        progress.note(f"idle {sample}: {sample.result.value}{eta}", style)

    def _refine(self) -> None:
        """Narrow the limit down, once, as soon as the times on both of its sides are known."""
        plain = [each for each in self._samples if not each.kept_alive and not each.refined]
        good, bad = bracket(plain)
        if bad is None or self._has_refined:
            return
        if any(idle <= bad and not kept_alive for idle, kept_alive in self._running):
            return
        self._has_refined = True
        if bad < self._schedule.idle_times[-1]:
            self._start(between(good, bad), refined=True)

    def _end(self) -> None:
        self._stop.set()
        for connection in self._connections:
            connection.abandon()
        until = boot() + _LEAVE
        for thread in self._threads:
            # A thread that still dials after Ctrl-C is abandoned.
            thread.join(max(until - boot(), 0.0))

    # -- in the thread of a connection ------------------------------------------------------------

    def _work(self, sample: Sample, connection: ProbeConnection) -> None:
        try:
            self._done.put(self._tried(sample, connection))
        except BaseException as error:  # noqa: BLE001  # raised in the thread that waits
            self._done.put(error)
        finally:
            connection.close()

    def _tried(self, sample: Sample, connection: ProbeConnection) -> Sample:
        try:
            facts = connection.open()
        except BROKEN as error:
            return _found(sample, Result.NOT_OPENED, in_words(error))
        if not facts.is_kept:
            return _found(sample, Result.NOT_KEPT)
        since = now()
        if self._stop.wait(sample.idle):
            return sample
        limit = self._schedule.answer_limit
        finding = connection.look() or connection.reuse(limit)
        # A machine that slept has left the connection idle for longer than planned.
        if since.age(now()) > 2 * (sample.idle + limit):
            return _found(sample, Result.NOT_OPENED, "the machine was asleep")
        return self._controlled(replace(sample, finding=finding))

    def _controlled(self, sample: Sample) -> Sample:
        """Blame idleness only where a fresh connection fares better at the same moment."""
        if sample.result not in _UNUSABLE or self._stop.is_set():
            return sample
        control = ProbeConnection(self._target)
        try:
            facts = control.open()
        except BROKEN as error:
            return _found(sample, Result.CONTROL_FAILED, in_words(error))
        finally:
            control.close()
        return replace(sample, control=facts.connect + facts.request)


def _found(sample: Sample, result: Result, error: str | None = None) -> Sample:
    return replace(sample, finding=Finding(result=result, error=error))
