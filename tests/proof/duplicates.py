"""Counts what the default adapter makes a server that ignores keys do twice, beside plain requests.

Run on its own: ``PYTHONPATH=tests/support python tests/proof/duplicates.py --count 1000 --seed 7``;
prints a table, and fails at a violation.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, NamedTuple

import requests
import schedules
from clients import until
from fake_clock import FakeClock, mounted
from hypothesis import strategies as st
from requests.adapters import HTTPAdapter
from schedules import LIMIT, Advance, Ask, Fan, Handshakes, Idle, Rotate, Schedule, Violation

from resilient_requests import ResilientAdapter
from resilient_requests.testing import FaultServer, FinThenReset, Reply, Reset

if TYPE_CHECKING:
    from collections.abc import Callable

    from schedules import Fate, Kind, Misfortune, Step

    from resilient_requests.testing import ReceivedRequest

BARE: tuple[Kind, ...] = ("POST", "generator", "reset POST", "ended POST")
# Safe by their method, or by a key, which the server here ignores.
DECLARED: tuple[Kind, ...] = ("GET", "stream", "own key", "stream POST")
# A death before the first byte of an answer, within the five seconds of rule (b).
_AT_ONCE: tuple[Fate, ...] = ("reset", "fin", "fin then reset")
_ENDS: dict[Kind, Reset | FinThenReset] = {"reset POST": Reset(), "ended POST": FinThenReset()}

_asks = st.builds(
    Ask, st.sampled_from(("POST", *BARE, "POST", *DECLARED)), schedules.fates.map(tuple)
)
_others = (schedules.fans, *[schedules.misfortunes] * 3, *[schedules.advances] * 3)
_step = st.sampled_from(
    (*[_asks] * 9, *_others, schedules.handshakes, schedules.rotations)
).flatmap(lambda step: step)
_steps = st.lists(_step, min_size=1, max_size=10).map(tuple)
drawn = st.builds(
    Schedule,
    # A first answer leaves a connection to be used again.
    st.sampled_from((_steps, _steps.map(lambda steps: (Ask("GET"), *steps)))).flatmap(
        lambda steps: steps
    ),
    st.sampled_from((False, False, False, True)),
    st.just("streams"),
)


class Act(NamedTuple):
    """One time that the server acted on a call, and whether the connection had served another."""

    fate: Fate
    is_reused: bool


class Play:
    """A schedule on one adapter and a server of its own; ``acts`` lists what was done, by call."""

    def __init__(self, schedule: Schedule, session: requests.Session, clock: FakeClock) -> None:
        self.asks: list[Ask] = []
        self.acts: defaultdict[int, list[Act]] = defaultdict(list)
        self._schedule, self._session, self._clock = schedule, session, clock
        self._server = FaultServer(tls=schedule.tls, patience=10.0)
        self._server.default = self._answer
        self._seen: Counter[int] = Counter()
        self._may_be_silent = False
        session.trust_env = False
        session.verify = self._server.ca_path or True

    def run(self) -> None:
        """Take all steps, and end all threads of the server."""
        with self._server:
            for step in self._schedule.steps:
                self._take(step)
        assert self._server.applied == sum(map(len, self.acts.values()))

    def _take(self, step: Step) -> None:
        match step:
            case Ask():
                _read(self._asked(step))
            case Fan():
                ask = Ask("stream", ("body cut",) if step.meanwhile == "cut" else ())
                responses = [self._asked(ask) for _ in range(step.count)]
                if step.meanwhile == "rotate":
                    self._rotate()
                for response in responses:
                    _read(response)
            case Idle():
                self._strike(step.how)
            case Handshakes() if self._schedule.tls:
                self._server.on_handshake(*[Reply((Reset(),))] * step.cut)
            case Rotate():
                self._rotate()
            case Advance():
                schedules.advance(self._clock, step)

    def _strike(self, how: Misfortune) -> None:
        self._may_be_silent |= how == "black hole"
        schedules.strike(self._server, how)

    def _rotate(self) -> None:
        adapter = self._session.get_adapter(self._server.url)
        if isinstance(adapter, ResilientAdapter):
            adapter.rotate()

    def _asked(self, ask: Ask) -> requests.Response | None:
        """Make a call; None if it fails."""
        method, options = schedules.arguments_of(ask.kind)
        url = f"{self._server.url}/{len(self.asks)}"
        if ask.kind in _ENDS:
            self._server.route(f"/{len(self.asks)}", Reply((_ENDS[ask.kind],), read=100_000))
        self.asks.append(ask)
        is_silent = self._may_be_silent or any("silent" in fate for fate in ask.fates)
        try:
            timeout = (5.0, LIMIT if is_silent else 5.0)
            return self._session.request(method, url, timeout=timeout, **options)
        except requests.RequestException:
            return None

    def _answer(self, request: ReceivedRequest) -> Reply:
        """What becomes of one try."""
        call = int(request.path[1:])
        ask, number = self.asks[call], self._seen[call]
        self._seen[call] += 1
        fate: Fate = ask.fates[number] if number < len(ask.fates) else "ok"
        if passing := schedules.passing_of(ask, fate):
            self._await_waiting()
            self._clock.advance(passing)
        reply = schedules.reply_of(fate, b"done")
        if reply.applies:
            record = self._server.connections[request.connection - 1]
            self.acts[call].append(Act(fate, record.requests > 1))
        return reply

    def _await_waiting(self) -> None:
        """The client may not have noticed yet that its last byte is out."""
        adapter = self._session.get_adapter(self._server.url)
        if isinstance(adapter, ResilientAdapter):
            until(lambda: any(each.phase == "wait" for each in adapter.in_flight()), 5.0)


def _read(response: requests.Response | None) -> None:
    """Read all there is; only what the server does counts here."""
    if response is not None:
        with contextlib.suppress(requests.RequestException):
            assert response.content is not None


def default_session(clock: FakeClock) -> requests.Session:
    """A session over the default adapter, whose waits are none."""
    return mounted(clock, idempotency_keys="streams")


def plain_session(_: FakeClock) -> requests.Session:
    """A session over requests' own adapter."""
    session = requests.Session()
    session.mount("http://", HTTPAdapter())
    return session


def check(
    schedule: Schedule, ours: Callable[[FakeClock], requests.Session] = default_session
) -> Counter[str]:
    """Return the counts of one schedule; raise Violation where the server acts beyond the rules."""
    plays = []
    for session_of in (plain_session, ours):
        clock = FakeClock()
        with session_of(clock) as session:
            plays.append(Play(schedule, session, clock))
            plays[-1].run()
    found: Counter[str] = Counter()
    for call, ask in enumerate(plays[0].asks):
        plain, acts = (play.acts[call] for play in plays)
        found[f"{ask.kind}: calls"] += 1
        found[f"{ask.kind}: plain"] += len(plain)
        found[f"{ask.kind}: ours"] += len(acts)
        # One act is what was asked for, even where plain requests could not bring it about.
        for act in acts[: max(0, len(acts) - max(1, len(plain)))]:
            rule = _rule_of(ask.kind, act)
            if rule is None:
                raise Violation(f"call {call}, {ask}: done again after {act}", schedule)
            found[f"{ask.kind}: {rule}"] += 1
    return found


def _rule_of(kind: Kind, act: Act) -> str | None:
    """The rule by which a call is sent again after the server has acted; None: there is none."""
    if act.is_reused and act.fate in _AT_ONCE:
        return "b"
    return "c" if kind in DECLARED else None


def campaign(count: int, number: int = 0) -> Counter[str]:
    """Check so many schedules; raise Violation with the shortest that fails."""
    return schedules.campaign(count, number, drawn, check)


def text_of(found: Counter[str]) -> str:
    """Return the figures in Markdown."""
    counted = ("how many", "acted upon, plain", "acted upon, ours")
    again = ("again, by row 8", "again, declared safe", "again, otherwise")
    heads = ("calls", *counted, *again)
    lines = [
        f"**{found['schedules']:,} schedules with a server that ignores keys**:",
        "",
        f"| {' | '.join(heads)} |",
        "|---|" + "--:|" * (len(heads) - 1),
    ]
    rows: dict[str, tuple[Kind, ...]] = {
        "POST": BARE,
        "POST, streamed": ("stream POST",),
        "POST with a key of the caller's": ("own key",),
        "GET": ("GET", "stream"),
    }
    for name, kinds in rows.items():
        counts = [
            sum(found[f"{kind}: {what}"] for kind in kinds)
            for what in ("calls", "plain", "ours", "b", "c")
        ]
        lines.append(f"| {name} | {' | '.join(f'{each:,}' for each in counts)} | 0 |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run a campaign from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="schedules")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    sys.stdout.write(text_of(campaign(options.count, options.seed)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
