"""Fault schedules: calls, faults, idleness and clocks in any order, held against a model of what is allowed.

Run on its own for one schedule after another: ``python tests/schedules.py --count 1000 --seed 7``.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import requests
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from timed import FakeClock

from resilient_requests import (
    Cancelled,
    CancelScope,
    DeadlineExceeded,
    ResilientAdapter,
    RetryBudget,
    RetryPolicy,
    Rotation,
    StreamBroken,
    StreamIdle,
    Timeouts,
)
from resilient_requests._attempt import Phase, current
from resilient_requests._clock import boot
from resilient_requests._transport import origin_of
from resilient_requests.testing import (
    FaultServer,
    ReceivedRequest,
    Reply,
    Reset,
    Send,
    fin,
    fin_then_reset,
    reset,
    respond,
    silence,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from resilient_requests._attempt import Attempt

Kind = Literal[
    "GET", "POST", "own key", "generator", "big POST", "stream", "abandoned", "cancelled", "cancelled stream", "deadline"
]
Fate = Literal[
    "ok", "chunked", "close", "hint 5", "hint 1", "twice", "413", "503",
    "reset", "reset unread", "fin", "fin then reset", "late", "head cut", "head silent", "body cut", "body silent",
    "silent",
]  # fmt: skip
Misfortune = Literal["reset", "fin", "bytes", "black hole"]

LIMIT = 0.25  # the one limit of a call that silence runs into
EXPIRY, MARGIN, STALE_WITHIN, FLOOR = 10.0, 2.0, 5.0, 0.5
BUDGET = RetryBudget(capacity=4, deposit=0.25, trickle=0.0)  # every sum of these is exact
BIG = b"x" * (6 << 20)  # more than the kernel takes from a client whose peer does not read
POISON = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"


# -- what a schedule consists of --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ask:
    """A call, and what the server does with each try of it; tries beyond the last fate are answered."""

    kind: Kind
    fates: tuple[Fate, ...] = ()


@dataclass(frozen=True)
class Fan:
    """So many streams at once, which leave as many idle connections."""

    count: int


@dataclass(frozen=True)
class Idle:
    """What becomes of the connections that lie idle now."""

    how: Misfortune


@dataclass(frozen=True)
class Handshakes:
    """So many of the next TLS handshakes are cut."""

    cut: int


@dataclass(frozen=True)
class Rotate:
    """The user says that the network has changed; ``named``: for the generation that they have seen."""

    named: bool


@dataclass(frozen=True)
class Advance:
    """Time passes; ``asleep``: on the wall clock only, as for a paused machine."""

    seconds: float
    asleep: bool = False


Step = Ask | Fan | Idle | Handshakes | Rotate | Advance


@dataclass(frozen=True)
class Schedule:
    """What happens, in order, to one adapter and one server."""

    steps: tuple[Step, ...]
    tls: bool = False
    keys: bool = True  # POSTs are declared idempotent
    statuses: bool = False  # 503 is retried


_KINDS: tuple[Kind, ...] = (
    "GET", "GET", "POST", "POST", "own key", "generator", "big POST", "stream", "stream", "abandoned", "cancelled",
    "cancelled stream", "deadline",
)  # fmt: skip
_FATES: tuple[Fate, ...] = (
    "ok", "ok", "chunked", "close", "hint 5", "hint 1", "twice", "413", "503", "503",
    "reset", "reset", "reset unread", "fin", "fin then reset", "late", "head cut", "body cut",
)  # fmt: skip
_SILENT: tuple[Fate, ...] = ("silent", "head silent", "body silent")
_fates = st.lists(st.sampled_from(_FATES), max_size=3) | st.lists(st.sampled_from(_FATES + _SILENT), max_size=3)
_asks = st.builds(Ask, st.sampled_from(_KINDS), _fates.map(tuple))
_advances = st.builds(Advance, st.sampled_from((0.5, 1.0, 2.9, 3.0, 6.0, 9.0, 10.0, 70.0)), st.sampled_from((False, True)))
_others = st.one_of(
    st.builds(Fan, st.integers(2, 3)),
    st.builds(Idle, st.sampled_from(("reset", "fin", "bytes", "reset", "fin", "bytes", "black hole"))),
    st.builds(Handshakes, st.integers(1, 3)),
    st.builds(Rotate, st.booleans()),
    _advances,
)
_steps = st.lists(st.one_of(_asks, _asks, _others), min_size=1, max_size=10).map(tuple)
schedules = st.builds(Schedule, _steps, st.sampled_from((False, False, False, True)), st.booleans(), st.booleans())


# -- the model --------------------------------------------------------------------------------------------------------


class Window:
    """The adaptive window, computed anew from all that happened: nothing is kept that could go wrong."""

    def __init__(self, expiry: float = EXPIRY) -> None:
        self._expiry = expiry
        self._history: list[tuple[str, float, float]] = []

    def good(self, idle_for: float) -> None:
        self._history.append(("good", idle_for, 0.0))

    def stale(self, idle_for: float, now: float) -> None:
        self._history.append(("stale", idle_for, now))

    def limit(self, now: float) -> float:
        limit, longest, since = self._expiry, 0.0, 0.0

        def at(moment: float) -> float:
            if limit >= self._expiry:
                return self._expiry
            minutes = max(moment - since, 0.0) / 60
            return self._expiry if minutes > 64 else min(self._expiry, limit * 2.0**minutes)

        for what, idle_for, moment in self._history:
            if what == "good":
                longest = max(longest, idle_for)
                continue
            longest = 0.0 if longest >= idle_for else longest
            limit, since = min(at(moment), max(longest, idle_for / 2, FLOOR)), moment
        return at(now)


class Row(NamedTuple):
    """What follows from a failure: whose requests are repeated, at which price, what it does to the pool."""

    replays: Literal["all", "id", "none"]
    cost: int
    retires: bool
    error: type[Exception] | None
    is_stale: bool = False


_DIED: tuple[Fate, ...] = ("reset", "reset unread", "fin", "fin then reset", "late")
_HANDSHAKE = Row("all", 1, True, requests.ConnectionError)
_SILENCE = Row("none", 0, True, requests.ReadTimeout)


def row_of(fate: Fate, *, reused: bool, stream: bool, statuses: bool) -> Row | None:
    """Return the row of the table for what the server did; None for an answer that stands."""
    if fate in _DIED:
        is_stale = reused and fate != "late"
        return Row("all" if is_stale else "id", 0 if is_stale else 1, True, requests.ConnectionError, is_stale)
    rows: dict[Fate, Row] = {
        "head cut": Row("id", 1, True, requests.ConnectionError),
        "head silent": _SILENCE,
        "silent": _SILENCE,
        "body cut": Row("none" if stream else "id", 2, True, StreamBroken),
        "body silent": Row("none", 0, True, StreamIdle if stream else requests.ConnectionError),
    }
    if statuses:
        rows["503"] = Row("all", 1, False, None)
    return rows.get(fate)


@dataclass
class Lying:
    """An idle connection."""

    since: float
    hint: float | None = None
    state: Literal["alive", "dead", "silent", "unknown"] = "alive"


@dataclass
class Expected:
    """What must be seen of a call. ``pooled``: whether its connection is kept, None where both are right."""

    tries: list[Fate] = field(default_factory=list)
    reused: list[bool | None] = field(default_factory=list)
    error: type[BaseException] | None = None
    status: int = 200
    pooled: Lying | None = None
    may_be_pooled: bool = False
    may_succeed: bool = False
    stopped_by: str | None = None


class Model:
    """What the adapter must know and do, for calls one after the other."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.now = 0.0
        self.idle: list[Lying] = []
        self.generation = 0
        self.tokens = float(BUDGET.capacity)
        self.window = Window()
        self.cut_handshakes = 0
        self.rotated_at: float | None = None

    def lies_silent(self) -> bool:
        return any(each.state == "silent" for each in self.idle)

    def misfortune(self, how: Misfortune) -> None:
        for each in self.idle:
            if each.state == "alive":
                each.state = "silent" if how == "black hole" else "dead"
            elif each.state == "unknown" and how != "black hole":
                each.state = "dead"

    def rotate(self, *, named: bool) -> Rotation:
        if not named and self.rotated_at is not None and self.now - self.rotated_at < 1.0:
            return Rotation.COALESCED
        self.rotated_at = self.now
        self.generation += 1
        self.idle, self.window = [], Window()
        return Rotation.ROTATED

    def is_expired(self, lying: Lying) -> bool:
        hinted = EXPIRY if lying.hint is None else min(EXPIRY, max(lying.hint - MARGIN, 0.0))
        return self.now - lying.since >= min(hinted, self.window.limit(self.now))

    def take(self, *, fresh: bool) -> Lying | None:
        """Take the connection that was used last, or None to dial; expired ones at the bottom go too."""
        if not self.idle:
            return None
        top = self.idle.pop()
        is_good = not fresh and top.state != "dead" and not self.is_expired(top)
        while self.idle and self.is_expired(self.idle[0]):
            del self.idle[0]
        return top if is_good else None

    def put(self, lying: Lying) -> None:
        if not self.is_expired(lying):
            self.idle.append(lying)

    def fan(self, count: int) -> None:
        for _ in [self._used(self.take(fresh=False)) for _ in range(count)]:
            self.put(Lying(self.now))
            self.tokens = min(self.tokens + BUDGET.deposit, BUDGET.capacity)

    def _used(self, lying: Lying | None) -> None:
        if lying is not None:
            self.window.good(self.now - lying.since)

    def ask(self, ask: Ask, limit: float, reused: bool | None) -> Expected:
        """Return what a call must do; ``reused`` is what its first try did, for where both are right."""
        expected = Expected()
        is_idempotent = ask.kind not in ("POST", "generator", "big POST") or self.schedule.keys
        for number in range(3):
            lying = self.take(fresh=number > 0)
            if lying is not None and lying.state == "unknown":
                lying = lying if reused else None
            expected.reused.append(lying is not None)
            row = self._try(ask, limit, lying, expected)
            if row is None:
                return expected
            if lying is not None and row.is_stale:
                self.window.stale(self.now - lying.since, self.now)
            self._retire(retires=row.retires)
            is_touched = row is not _HANDSHAKE
            expected.stopped_by = self._why_not(ask, row, number, is_touched=is_touched, is_idempotent=is_idempotent)
            if expected.stopped_by is not None:
                self._conclude(row, expected)
                return expected
        raise AssertionError("three tries, and no end")

    def _conclude(self, row: Row, expected: Expected) -> None:
        expected.error = row.error
        if row.error is None:
            expected.status = 503

    def _why_not(self, ask: Ask, row: Row, number: int, *, is_touched: bool, is_idempotent: bool) -> str | None:
        if not (row.replays == "all" or (row.replays == "id" and is_idempotent)):
            return "policy"
        if number == 2:
            return "exhausted"
        if ask.kind == "generator" and is_touched:
            return "not replayable"
        if row.cost > self.tokens:
            return "budget"
        self.tokens -= row.cost
        return None

    def _retire(self, *, retires: bool) -> None:
        if retires:
            self.generation += 1
            self.idle = []

    def _try(self, ask: Ask, limit: float, lying: Lying | None, expected: Expected) -> Row | None:
        """One try: return the row of its failure; None where the call is over."""
        if lying is None and self.cut_handshakes:
            self.cut_handshakes -= 1
            return _HANDSHAKE
        if lying is not None and lying.state == "silent":
            if ask.kind == "big POST":  # its whole path is dead: nobody takes the bytes
                return Row("all", 0, True, requests.ConnectionError, is_stale=True)
            return _SILENCE
        fate: Fate = ask.fates[len(expected.tries)] if len(expected.tries) < len(ask.fates) else "ok"
        expected.tries.append(fate)
        if ask.kind == "big POST":
            return Row("all", 0 if lying else 1, True, requests.ConnectionError, is_stale=lying is not None)
        if ask.kind == "cancelled":
            expected.error = Cancelled
            return None
        self.now += _passing(ask, fate, limit)
        stream = ask.kind in ("stream", "abandoned", "cancelled stream")
        row = row_of(fate, reused=lying is not None, stream=stream, statuses=self.schedule.statuses)
        if ask.kind == "deadline" and limit == LIMIT and fate in ("late", *_SILENT):
            self._retire(retires=lying is not None and fate in ("late", "silent"))
            expected.error = DeadlineExceeded
            return None
        if row is None or fate in ("503", "body cut", "body silent"):
            if row is None or stream or fate == "503":
                self._used(lying)
        if row is None or (row.replays == "none" and row.error in (StreamBroken, StreamIdle)):
            self.tokens = min(self.tokens + BUDGET.deposit, BUDGET.capacity)
        if row is None or fate == "503":
            expected.status = int(fate) if fate in ("413", "503") else 200
            self._kept(ask, fate, expected)
        if ask.kind in ("cancelled stream", "abandoned"):
            return self._left(ask, fate, row, expected)
        return row

    def _left(self, ask: Ask, fate: Fate, row: Row | None, expected: Expected) -> Row | None:
        """A stream that its reader leaves in the middle, if there was one."""
        if row is not None and fate not in ("body cut", "body silent"):
            return row
        expected.may_be_pooled = expected.pooled is not None
        expected.pooled = None
        if ask.kind == "cancelled stream":
            expected.error, expected.may_succeed = Cancelled, True
        return None

    def _kept(self, ask: Ask, fate: Fate, expected: Expected) -> None:
        hints: dict[Fate, float] = {"hint 5": 5.0, "hint 1": 1.0}
        expected.pooled = Lying(self.now, hints.get(fate)) if fate != "close" else None
        if fate == "twice":
            expected.may_be_pooled, expected.pooled = True, None
        elif fate == "503" and self.schedule.statuses and expected.pooled is not None:
            pass


def _passing(ask: Ask, fate: Fate, limit: float) -> float:
    """How far the server moves the clock while it has the request."""
    if fate == "late":
        return STALE_WITHIN + 1
    return limit + 1 if ask.kind == "deadline" and fate in _SILENT else 0.0
