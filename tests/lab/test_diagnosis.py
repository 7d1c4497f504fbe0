"""The diagnosis of calls that hang in the laboratory, compared with the real fault."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from lab import certificates
from lab.cell import SCHEMES
from lab.looks import MENDING, Claim, Look, Watched
from lab.network import INTERNET, SERVER, why_not
from lab.workshop import Workshop

if TYPE_CHECKING:
    from collections.abc import Iterator

REASON = why_not()
TESTS = Path(__file__).resolve().parent.parent
AT_ONCE = 8
MOMENT = 0.7
"""Seconds by which a look may lag behind an event, on a busy machine."""

pytestmark = [
    pytest.mark.lab,
    pytest.mark.slow,
    pytest.mark.skipif(REASON is not None, reason=f"no laboratory here: {REASON}"),
    pytest.mark.timeout(300),  # the first test to ask waits for those that are played before
    pytest.mark.leaks(reason="the calls of other tests are played meanwhile"),
]


class Truth(NamedTuple):
    """The diagnosis that a record must give of the first attempt.

    ``claim`` is about the path, from ``by`` to ``until`` seconds; "none" means that nothing shows.
    ``limit`` is the limit that ends the attempt; None means that no limit does.
    """

    claim: Claim
    by: float
    limit: str | None
    until: float = float("inf")


# Probes are sent after 2 s, and every second: the second is unanswered after 3.
_DEAD, _ALIVE = Truth("dead", 3.0, "user_timeout"), Truth("alive", 2.0, "idle")
TRUTHS = {
    "stream-half-open": _DEAD,
    "stream-black-hole": _DEAD,
    "stream-reboot-drop": _DEAD,
    "stream-new-address": _DEAD,
    "stream-close-delimited": _DEAD,
    "thought-black-hole": _DEAD._replace(by=3.3),  # the fault comes once the server is at work
    "stream-reboot-reset": Truth("none", 0.0, None),  # the first probe is answered by a reset
    "stream-idle": Truth("none", 0.0, "idle"),  # no probe asks in so short a time
    "frozen-stream": _ALIVE,
    "frozen": _ALIVE._replace(limit="response"),
    "thought": _ALIVE._replace(limit=None),
    "dial-to-frozen-server": Truth("alive", 1.5, "connect"),
    "outage-stream-3": Truth("none", 0.0, None),
    "outage-stream-9": Truth("none", 0.0, None),
    "pooled-outage-call": Truth("dead", 0.8, None),
    # "no-route" is not here: its waits are random, and it may end before the first look.
    "no-route-patient": Truth("none", 0.0, None),
    "rough-calls": Truth("none", 0.0, None),
    "rough-stream": Truth("none", 0.0, None),
    "busy-server": Truth("alive", 1.5, None, until=11.5),
    # Sent again for the third time 1.4 s after the first.
    "request-into-black-hole": Truth("dead", 1.8, "user_timeout"),
    "idle-request-into-black-hole": Truth("dead", 1.8, "user_timeout"),
    "upload-into-black-hole": Truth("dead", 1.8, "user_timeout"),
    "dial-into-black-hole": Truth("dead", 3.1, "connect"),
}
ROWS = [(name, scheme) for name in TRUTHS for scheme in SCHEMES]


class Watchers:
    """Plays rows side by side, each in a process of its own: most of each is waiting."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="lab")
        self._shop = Workshop()
        certificates.make(self._shop.path, SERVER, INTERNET)
        self._seen: dict[tuple[str, str], Future[Watched]] = {}

    def begin(self, rows: list[tuple[str, str]]) -> None:
        """Begin to play them."""
        self._seen = {row: self._pool.submit(self._play, *row) for row in rows}

    def seen(self, name: str, scheme: str) -> Watched:
        """Wait until a row has been played."""
        return self._seen[name, scheme].result()

    def close(self) -> None:
        """Let go of all."""
        self._pool.shutdown(cancel_futures=True)
        self._shop.close()

    def _play(self, name: str, scheme: str) -> Watched:
        program = [sys.executable, str(TESTS / "lab" / "looks.py"), name, scheme]
        done = subprocess.run(
            ["setpriv", "--pdeathsig", "KILL", *program, str(self._shop.path)],
            capture_output=True,
            text=True,
            timeout=150,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(TESTS), *filter(None, sys.path)]),
            },
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        facts = json.loads(done.stdout.splitlines()[-1])
        return Watched(**{**facts, "looks": [Look(**each) for each in facts["looks"]]})


@pytest.fixture(scope="module")
def watchers(request: pytest.FixtureRequest) -> Iterator[Watchers]:
    """All rows of the tests that were chosen."""
    params = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    wanted = {(each["name"], each["scheme"]) for each in params if each.get("name") in TRUTHS}
    watchers = Watchers()
    try:
        watchers.begin(sorted(wanted))
        yield watchers
    finally:
        watchers.close()


def complaints(seen: Watched, truth: Truth) -> list[str]:
    """Say which looks are wrong about the path, and which do not foresee the end."""
    attempt = first_attempt(seen)
    wrong = [look for look in seen.looks if is_false(look, seen)]
    if truth.claim != "none":
        wrong += [look for look in due(attempt, truth, seen) if look.claim != truth.claim]
    if truth.limit is not None:
        ended = attempt[-1].at
        wrong += [
            look
            for look in due(attempt, truth, seen)
            if look.limit != truth.limit or abs(look.at + (look.ends_in or 0.0) - ended) > MOMENT
        ]
    return [f"{look.at:.1f} s, {look.limit} in {look.ends_in}: {look.judgement}" for look in wrong]


def first_attempt(seen: Watched) -> list[Look]:
    """The looks at the first attempt that was measured: earlier calls warm the pool."""
    looks = [look for look in seen.looks if look.at > 0 and look.phase != "backoff"]
    return [look for look in looks if look.call == looks[0].call]


def due(attempt: list[Look], truth: Truth, seen: Watched) -> list[Look]:
    """The looks that could know all, before the call is about to end, or the path is mended."""
    mended = [at for at, what in seen.faults if what in MENDING]
    end = min([attempt[-1].at - MOMENT, truth.until, *mended])
    found = [look for look in attempt if truth.by + MOMENT <= look.at <= end]
    assert found
    return found


def is_false(look: Look, seen: Watched) -> bool:
    """True if a look makes a false claim."""
    died = min((at for at, what in seen.faults if what not in ("freeze", *MENDING)), default=None)
    mended = min((at for at, what in seen.faults if what in MENDING), default=float("inf"))
    if look.claim == "dead":
        return died is None or not died <= look.known <= mended + MOMENT
    return look.claim == "alive" and died is not None and died + MOMENT < look.known < mended


@pytest.mark.parametrize(("name", "scheme"), ROWS)
def test_judgement_says_what_is_the_matter(name: str, scheme: str, watchers: Watchers) -> None:
    """Of ten looks a second at a hanging call, none makes a false claim, and none is late."""
    seen, truth = watchers.seen(name, scheme), TRUTHS[name]
    if (name, scheme) == ("dial-to-frozen-server", "http"):
        truth = truth._replace(limit="response")  # there is no handshake that could hang

    assert seen.looks
    assert complaints(seen, truth) == []
