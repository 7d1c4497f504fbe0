"""One call, something that happens at one of its lines, and the rules that must hold afterwards."""

from __future__ import annotations

import gc
import os
import signal
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import requests

from races.injections import EVENTS, EXCEPTIONS, Happening
from races.scenarios import ANSWER, Call, Scenario
from races.tracing import Place, Tracer
from resilient_requests import CancelScope

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from driven_network import Network

PATIENCE = 30.0  # seconds for one trial on a busy machine; nothing waits in it
# The call may take such an exception for a failure of the network. Its effect then depends on the
# line.
LOSSES = {
    "an exception is swallowed",
    "another exception leaves",
    "the request is repeated",
}
_FD_DIR = "/proc/self/fd"


class Violation(AssertionError):
    """A rule does not hold. ``kind`` is, about, the same for all lines of one fault."""

    def __init__(self, rule: str, happening: str, places: list[Place], facts: str) -> None:
        super().__init__(rule, happening, places, facts)
        self.rule, self.happening, self.places, self.facts = rule, happening, places, facts

    @property
    def kind(self) -> str:
        """The rule and the happening."""
        return f"{self.rule}: {self.happening}"

    def is_like(self, other: Violation) -> bool:
        """Return whether both may be of one fault."""
        is_same = self.rule == other.rule or {self.rule, other.rule} <= LOSSES
        return is_same and self.happening == other.happening

    def __str__(self) -> str:
        return f"{self.kind}\n  at {', then '.join(map(str, self.places))}\n  {self.facts}"


class TooLong(BaseException):
    """A trial hangs. No Exception: nobody may handle it."""


@dataclass
class _Ending:
    """The end of a call: its answer, or its error."""

    answer: bytes | None = None
    error: BaseException | None = None


@dataclass(frozen=True)
class Trial:
    """A happening in a call, and its moment.

    It begins before the line of that number. Another thread stops before a line of its own
    (``pause``; 0 means that it stops nowhere), and goes on ``gap`` lines later.
    """

    scenario: Scenario
    happening: str  # a key of EXCEPTIONS or EVENTS
    number: int
    pause: int = 0
    gap: int = 1

    def check(self, networks: Mapping[bool, Network]) -> bool:
        """Make the call; return whether it passes so many lines. Raises Violation."""
        with _bounded():
            return _Run(self, networks[self.scenario.tls]).check()


def lines_of(scenario: Scenario, networks: Mapping[bool, Network]) -> dict[Place, list[int]]:
    """Return the lines that a call passes, each with the numbers at which it does so."""
    network = networks[scenario.tls]
    network.forget()
    call = Call(scenario, network)
    tracer = Tracer()
    with CancelScope():
        answer = tracer.run(call.make)
    assert answer == ANSWER
    call.adapter.close()
    found: dict[Place, list[int]] = {}
    for number, place in enumerate(tracer.passed, 1):
        found.setdefault(place, []).append(number)
    return found


@contextmanager
def _bounded() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class _Run:
    """One trial on a network."""

    def __init__(self, trial: Trial, network: Network) -> None:
        self._trial = trial
        self._scenario = trial.scenario
        self._happening = trial.happening
        self._network = network
        self._tracer = Tracer()
        self._unraisable: list[str] = []

    def check(self) -> bool:
        self._network.forget()
        before = _descriptors()
        hook, sys.unraisablehook = sys.unraisablehook, self._note
        try:
            self._run()
            self._network.forget()
            if _descriptors() > before:
                gc.collect()  # a cycle of an exception and its frames may hold a socket
        finally:
            sys.unraisablehook = hook
        left = _descriptors() - before
        self._require(left <= 0, "descriptors leak", left)
        self._require(not self._unraisable, "an exception is ignored", self._unraisable)
        return bool(self._tracer.places)

    def _note(self, unraisable: Any) -> None:
        self._unraisable.append(f"{unraisable.exc_value!r} in {unraisable.object!r}")

    def _run(self) -> None:
        call = Call(self._scenario, self._network)
        try:
            if self._happening in EXCEPTIONS:
                self._raise(call)
            else:
                self._happen(call)
            is_last = self._happening in EVENTS and EVENTS[self._happening].is_last
            if not is_last or not self._tracer.places:
                self._follow(call)
            in_flight = call.adapter.stats().in_flight
            self._require(in_flight == 0, "a call stays in flight", in_flight)
        except TooLong:
            raise Violation(
                "hang", self._happening, self._tracer.places, str(self._scenario)
            ) from None
        finally:
            call.adapter.close()

    def _raise(self, call: Call) -> None:
        injected = EXCEPTIONS[self._happening]()

        def act() -> None:
            raise injected

        ending = self._made(call, CancelScope(), {self._trial.number: act})
        injected.__traceback__ = None  # its frames would keep the connection
        self._count(ending)
        if self._tracer.places:
            is_it = ending.error is injected
            self._require(ending.error is not None, "an exception is swallowed", ending)
            self._require(is_it, "another exception leaves", ending)

    def _happen(self, call: Call) -> None:
        event, scope, trial = EVENTS[self._happening], CancelScope(), self._trial
        happening = Happening(event, call, scope, trial.pause)
        acts = {trial.number: happening.begin, trial.number + trial.gap: happening.resume}
        ending = self._made(call, scope, acts)
        problem = happening.join(5.0)
        self._require(problem is None, "what happens fails", problem)
        if ending.error is None:
            self._require(ending.answer == ANSWER, "wrong answer", ending)
        else:
            self._require(isinstance(ending.error, event.may_end), "undocumented error", ending)
        self._count(ending)

    def _made(self, call: Call, scope: CancelScope, acts: dict[int, Any]) -> _Ending:
        self._tracer = Tracer(acts)
        try:
            with scope:
                return _Ending(answer=self._tracer.run(call.make))
        except TooLong:
            raise
        except BaseException as error:  # noqa: BLE001  # judged
            return _Ending(error=error)

    def _count(self, ending: _Ending) -> None:
        paths = [request.path for request in self._network.requests]
        most = paths.count("/call")
        self._require(most <= 1, "the request is repeated", most, ending)

    def _follow(self, call: Call) -> None:
        try:
            answer = call.follow("/next")
        except requests.RequestException as error:
            self._require(False, "the next call fails", repr(error))
        else:
            self._require(answer == b"/next", "the next answer is not its own", answer)

    def _require(self, holds: object, rule: str, *facts: object) -> None:
        if not holds:
            text = "\n  ".join([str(self._trial), *map(str, facts)])
            raise Violation(rule, self._happening, self._tracer.places, text)


def _descriptors() -> int:
    try:
        return len(os.listdir(_FD_DIR))  # noqa: PTH208  # only their number counts
    except OSError:  # no /proc here
        return 0
