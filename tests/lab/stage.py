"""The stage of an incident: one laboratory, one client, and the outcome of the measured calls."""

from __future__ import annotations

import queue
import signal
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lab.contenders import CONTENDERS, Contender, Place, Question, Settings
from resilient_requests.call import describe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lab.network import Lab

OK, TRUNCATED, HUNG = "ok", "TRUNCATED", "HUNG"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One attempt of a call, as our adapter tells of it."""

    reused: bool
    error: str | None
    elapsed: float


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The outcome of the measured calls.

    ``result`` is "ok"; "TRUNCATED" for a stream that ended early and did not say so; "HUNG"; or the
    error of the first failed call. ``seconds`` is the longest call, counted from the fault.
    ``seen`` and ``executed`` count requests at the server. ``most_executed`` counts the executions
    of one and the same call.
    """

    result: str
    seconds: float
    calls: int
    seen: int
    executed: int
    most_executed: int
    trials: tuple[Trial, ...] = ()

    @property
    def failed_attempts(self) -> int:
        """Attempts that ended with an error."""
        return sum(1 for trial in self.trials if trial.error is not None)

    @property
    def stale_uses(self) -> int:
        """Attempts that were made on a pooled connection and failed."""
        return sum(1 for trial in self.trials if trial.error is not None and trial.reused)


class Hung(BaseException):
    """A call has outlasted the limit.

    It is no Exception, so that no client mistakes it for an error of the network.
    """


class Stage:
    """Plays one incident; used by the main thread of a process, in the client's namespace.

    ``limit``: seconds after which the measured calls count as hung.
    """

    def __init__(
        self, lab: Lab, contender: str, scheme: str, settings: Settings, limit: float
    ) -> None:
        self.lab = lab
        self.scheme = scheme
        self._make: Callable[[Place, Settings], Contender] = CONTENDERS[contender]
        self._settings = settings
        self._limit = limit
        self._place = Place(url=lab.url(scheme), ca=lab.ca)
        self._contender: Contender | None = None
        self._since = 0.0
        self._results: list[tuple[str, float]] = []
        self._measured: list[str] = []
        self._number = 0
        self._timers: list[threading.Timer] = []

    @property
    def contender(self) -> Contender:
        """The client, made when it is first needed."""
        self.make_client()
        assert self._contender is not None
        return self._contender

    @property
    def began(self) -> float:
        """When the measured time began, by the monotonic clock."""
        return self._since

    def make_client(self) -> None:
        """Make the client, unless it is there: some take a second for it, which must not count."""
        if self._contender is None:
            self._contender = self._make(self._place, self._settings)

    def go_through(self, *, proxy: str | None = None, url: str | None = None) -> None:
        """Send everything through a proxy, or to a balancer; before the first call."""
        self._place = Place(url=url or self._place.url, ca=self._place.ca, proxy=proxy)

    # -- calls that prepare ------------------------------------------------------------------------

    def warm(self, connections: int = 1, **orders: Any) -> None:
        """Leave so many idle connections in the pool."""
        if connections == 1:
            assert self.contender.ask(self._question(orders=orders))
        else:
            results = self._together(connections, orders={"think": 0.5, **orders})
            assert [result for result, _ in results] == [OK] * connections, results
        self.contender.attempts.clear()

    def spend(self) -> None:
        """Make a call that may well fail, and is not measured."""
        with _alarm(self._limit):
            self._result(lambda: self.contender.ask(self._question()))
        self.contender.attempts.clear()

    def fault(self) -> None:
        """From now on the time counts."""
        self._since = time.monotonic()

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something while a call is on its way."""
        self.make_client()
        timer = threading.Timer(seconds, action)
        timer.daemon = True
        self._timers.append(timer)
        timer.start()

    def once_executed(self, action: Callable[[], None]) -> None:
        """Do something once the server has acted upon the next measured call.

        The server has not answered yet at that moment.
        """
        self.make_client()
        request_id = self._id(self._number + 1)
        until = time.monotonic() + self._limit

        def watch() -> None:
            while not self.lab.counts("executed")[request_id] and time.monotonic() < until:
                time.sleep(0.01)
            action()

        watcher = threading.Timer(0.0, watch)
        watcher.daemon = True
        self._timers.append(watcher)
        watcher.start()

    # -- calls that are measured -------------------------------------------------------------------

    def ask(self, size: int = 100, method: str = "POST", **orders: Any) -> None:
        """Measure one buffered call."""
        question = self._question(size=size, method=method, orders=orders, is_measured=True)
        self._measure(lambda: self.contender.ask(question))

    def ask_at_once(self, calls: int) -> None:
        """Measure so many calls at the same time."""
        self._results += self._together(calls, is_measured=True)

    def stream(
        self, fault: Callable[[], None], *, at_event: int = 3, events: int = 12, **orders: Any
    ) -> None:
        """Measure one stream, from the fault on that comes after so many events."""
        question = self._question(
            orders={"events": events, "every": 0.2, **orders}, is_measured=True
        )

        def read() -> bool:
            received = 0
            for _ in self.contender.stream(question):
                received += 1
                if received == at_event:
                    fault()
                    self.fault()
            return received == events

        self._measure(read)

    def _measure(self, action: Callable[[], bool]) -> None:
        self.make_client()
        self.fault()
        with _alarm(self._limit):
            result = self._result(action)
        self._results.append((result, time.monotonic() - self._since))

    @staticmethod
    def _result(action: Callable[[], bool]) -> str:
        try:
            return OK if action() else TRUNCATED
        except Hung:
            return HUNG
        except Exception as error:  # noqa: BLE001  # every error is an outcome
            return describe(error)

    def _together(
        self, calls: int, *, orders: dict[str, Any] | None = None, is_measured: bool = False
    ) -> list[tuple[str, float]]:
        contender = self.contender
        questions = [
            self._question(orders=orders or {}, is_measured=is_measured) for _ in range(calls)
        ]
        done: queue.Queue[tuple[str, float]] = queue.Queue()
        start = threading.Barrier(calls)

        def one(question: Question) -> None:
            start.wait(self._limit)
            since = time.monotonic()
            result = self._result(lambda: contender.ask(question))
            done.put((result, time.monotonic() - since))

        for question in questions:
            threading.Thread(target=one, args=(question,), daemon=True).start()
        until = time.monotonic() + self._limit
        results: list[tuple[str, float]] = []
        while len(results) < calls:
            try:
                results.append(done.get(timeout=max(until - time.monotonic(), 0.0)))
            except queue.Empty:
                return [*results, *[(HUNG, self._limit)] * (calls - len(results))]
        return results

    def _question(
        self,
        *,
        size: int = 100,
        method: str = "POST",
        orders: dict[str, Any] | None = None,
        is_measured: bool = False,
    ) -> Question:
        self._number += 1
        request_id = self._id(self._number)
        if is_measured:
            self._measured.append(request_id)
        return Question(request_id=request_id, orders=orders or {}, size=size, method=method)

    @staticmethod
    def _id(number: int) -> str:
        return f"call-{number}"

    # -- the end -----------------------------------------------------------------------------------

    def outcome(self) -> Outcome:
        """End all faults, let the server finish, and count."""
        for timer in self._timers:
            timer.join(self._limit)
        self.lab.thaw()
        self.lab.settle()
        seen, executed = self.lab.counts("seen"), self.lab.counts("executed")
        return Outcome(
            result=next((result for result, _ in self._results if result != OK), OK),
            seconds=round(max(seconds for _, seconds in self._results), 2),
            calls=len(self._measured),
            seen=sum(seen[each] for each in self._measured),
            executed=sum(executed[each] for each in self._measured),
            most_executed=max(executed[each] for each in self._measured),
            trials=tuple(
                Trial(reused=each.reused, error=each.error, elapsed=round(each.elapsed, 2))
                for each in self.contender.attempts
            ),
        )


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Raise Hung in the main thread after so many seconds, even in a blocking call."""

    def ring(number: int, frame: object) -> None:
        raise Hung

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)  # again, where a callback has swallowed it
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
