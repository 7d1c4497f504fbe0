"""The soak: many threads, one misbehaving server, and every answer checked against its request.

The long form is ``python tests/proof/soak.py --seconds 3600 --seed 7``, which prints one line of
figures.
"""

from __future__ import annotations

import argparse
import collections
import gc
import json
import os
import random
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
import tenacity

from resilient_requests import (
    Cancelled,
    CancelScope,
    ResilientAdapter,
    RetryPolicy,
    StreamError,
    Timeouts,
    iter_events,
)
from resilient_requests.testing import (
    FaultServer,
    ReceivedRequest,
    Reply,
    fin,
    reset,
    respond,
    silence,
    sse,
)

THREADS = 12
MOST_GROWTH = 5_000_000  # bytes
EVENTS = 5
LIMITS = Timeouts(connect=5.0, write=5.0, response=1.0, idle=1.0)
# A server's treatments of one try of a request: the name, whether it acts on the request, and how
# often it is drawn.
FAULTS = (
    ("none", True, 40),
    ("reset, not applied", False, 8),
    ("reset, applied", True, 8),
    ("end, not applied", False, 6),
    ("end, applied", True, 6),
    ("head cut", True, 6),
    ("body cut", True, 8),
    ("silence", True, 1),
    ("close after", True, 6),
)
KINDS = ("GET", "POST", "bare POST", "large POST", "stream", "cancelled stream", "legacy stream")


@dataclass
class Tally:
    """The counts for the oracle and for the figures; guarded by its lock."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    calls: int = 0
    faults: int = 0
    outcomes: collections.Counter[str] = field(default_factory=collections.Counter)
    violations: list[str] = field(default_factory=list)
    applied: collections.Counter[str] = field(default_factory=collections.Counter)
    tries: collections.Counter[str] = field(default_factory=collections.Counter)

    def note(self, outcome: str, violation: str | None) -> None:
        with self.lock:
            self.calls += 1
            self.outcomes[outcome] += 1
            if violation:
                self.violations.append(violation)


class Misbehaviour:
    """Decides about the server's treatment of a try.

    The seed, the request's id and the number of the try determine it.
    """

    def __init__(self, seed: int, tally: Tally) -> None:
        self._seed = seed
        self._tally = tally

    def __call__(self, request: ReceivedRequest) -> Reply:
        name = request.path.rpartition("/")[2]
        kind = request.path.split("/")[1]
        with self._tally.lock:
            self._tally.tries[name] += 1
            chance = random.Random(f"{self._seed} {name} {self._tally.tries[name]}")
            fault, applies, _ = chance.choices(FAULTS, [weight for _, _, weight in FAULTS])[0]
            self._tally.faults += fault != "none"
            self._tally.applied[name] += applies
        if "stream" in kind:
            return _stream(name, fault, chance)
        body = f"{name}:{len(request.body)}".encode()
        replies: dict[str, Reply] = {
            "none": respond(body, framing=chance.choice(("length", "chunked", "close"))),
            "reset, not applied": reset(),
            "reset, applied": reset(),
            "end, not applied": fin(),
            "end, applied": fin(),
            "head cut": respond(body, cut=("head", 20), ending=chance.choice(("reset", "fin"))),
            "body cut": respond(
                body, cut=max(len(body) - 2, 0), ending=chance.choice(("reset", "fin"))
            ),
            "silence": silence(),
            "close after": respond(body, headers=[("Connection", "close")]),
        }
        return replies[fault]


def _stream(name: str, fault: str, chance: random.Random) -> Reply:
    events = [{"id": name, "n": n} for n in range(EVENTS)]
    framing: Any = chance.choice(("chunked", "close"))
    if fault in ("none", "close after"):
        return sse(*events, framing=framing)
    if fault == "silence":
        return sse(*events[:2], done=False, ending="silence", framing=framing)
    if fault in ("body cut", "head cut"):
        ending: Any = chance.choice(("reset", "fin"))
        return sse(*events[:3], done=False, ending=ending, framing=framing)
    return reset() if fault.startswith("reset") else fin()


class Caller:
    """One thread of calls.

    It makes each call, and compares the outcome with the request and the rules.
    """

    def __init__(
        self, url: str, number: int, seed: int, tally: Tally, sessions: dict[bool, requests.Session]
    ) -> None:
        self._url = url
        self._number = number
        self._chance = random.Random(f"{seed} caller {number}")
        self._tally = tally
        self._sessions = sessions
        self._count = 0

    def call(self) -> None:
        self._count += 1
        name = f"{self._number}-{self._count}"
        kind = self._chance.choice(KINDS)
        session = self._sessions[kind != "bare POST"]
        url = f"{self._url}/{kind.replace(' ', '_')}/{name}"
        size = (
            self._chance.choice((200_000, 2_000_000))
            if kind == "large POST"
            else self._chance.randrange(500)
        )
        try:
            violation, attempts = self._made(session, kind, url, name, size)
            outcome = "answered"
        except (requests.RequestException, Cancelled) as error:
            violation, outcome, attempts = (
                None,
                type(error).__name__,
                error.attempts,  # type: ignore[union-attr]
            )
            if isinstance(error, Cancelled) and kind != "cancelled stream":
                violation = f"{name}: Cancelled, and nobody had cancelled it"
        # The soak looks for every other error.
        except Exception as error:  # noqa: BLE001
            violation, outcome, attempts = f"{name} ({kind}): {error!r}", type(error).__name__, ()
        self._tally.note(outcome, violation or self._too_often(kind, name, attempts))

    def _made(
        self, session: requests.Session, kind: str, url: str, name: str, size: int
    ) -> tuple[str | None, tuple[Any, ...]]:
        if "stream" in kind:
            return self._streamed(session, kind, url, name)
        if kind == "GET":
            size, response = 0, session.get(url)
        else:
            response = session.post(url, data=b"x" * size)
        is_right = response.status_code == 200 and response.text == f"{name}:{size}"
        violation = (
            None if is_right else f"{name} ({kind}): {response.status_code} {response.text[:60]!r}"
        )
        return violation, vars(response)["attempts"]

    def _streamed(
        self, session: requests.Session, kind: str, url: str, name: str
    ) -> tuple[str | None, tuple[Any, ...]]:
        expected = [(name, n) for n in range(EVENTS)]
        with CancelScope() as scope:
            response = session.get(url, stream=True)
            attempts = vars(response)["attempts"]
            try:
                seen: list[str] = []
                if kind == "legacy stream":
                    seen += [line[6:].decode() for line in response.iter_lines() if line]
                else:
                    for event in iter_events(response):
                        seen.append(event.data)
                        if kind == "cancelled stream" and len(seen) == 2:
                            scope.cancel()
                    if kind == "cancelled stream" and seen[-1] != "[DONE]" and len(seen) > 2:
                        return f"{name}: a cancelled stream went on to {len(seen)} events", attempts
            except StreamError as error:
                error.attempts = attempts
                raise
            finally:
                response.close()
        is_whole = seen[-1:] == ["[DONE]"]
        events = [json.loads(item) for item in (seen[:-1] if is_whole else seen)]
        read = [(event["id"], event["n"]) for event in events]
        if read != expected[: len(read)] or (is_whole and read != expected):
            return f"{name}: {seen}", attempts
        return None, attempts

    def _too_often(self, kind: str, name: str, attempts: tuple[Any, ...]) -> str | None:
        """Return a complaint if the server acted more often than the rules permit."""
        with self._tally.lock:
            applied, tries = self._tally.applied.pop(name, 0), self._tally.tries.pop(name, 0)
        stale = sum(1 for each in attempts[:-1] if each.reused and each.phase in ("send", "wait"))
        most = 1 + stale if kind == "bare POST" else 3
        if applied > most or tries > 3:
            return f"{name} ({kind}): applied {applied} times in {tries} tries: {attempts}"
        return None


def campaign(seconds: float, seed: int, *, least_faults: int = 0) -> dict[str, Any]:
    """Run the soak for so long, and until so many faults were injected; return its figures."""
    tally = Tally()
    policy = RetryPolicy(wait=tenacity.wait_none(), budget=None)
    with FaultServer(patience=10.0) as server:
        server.default = Misbehaviour(seed, tally)
        adapters = {
            keys: ResilientAdapter(max_retries=policy, timeouts=LIMITS, idempotency_keys=keys)
            for keys in (True, False)
        }
        sessions = {keys: requests.Session() for keys in adapters}
        for keys, adapter in adapters.items():
            sessions[keys].mount("http://", adapter)
        memory = _run(
            seconds, least_faults, seed=seed, server=server, tally=tally, sessions=sessions
        )
        left = sum(len(adapter._state.in_flight.all()) for adapter in adapters.values())
        for session in sessions.values():
            session.close()
        server.wait_for(lambda one: one.open_connections == 0)
        open_connections = server.open_connections
    return {
        "calls": tally.calls,
        "faults": tally.faults,
        "outcomes": dict(tally.outcomes),
        "violations": tally.violations,
        "in_flight": left,
        "open_connections": open_connections,
        "memory_growth": memory,
    }


def complaints(figures: dict[str, Any]) -> list[str]:
    """Return the complaints about the figures of a campaign."""
    found = list(figures["violations"])
    if figures["outcomes"]["answered"] <= figures["calls"] / 3:
        found.append(f"too few answers: {figures['outcomes']}")
    found += [
        f"left behind: {figures[name]} {name}"
        for name in ("in_flight", "open_connections")
        if figures[name]
    ]
    if figures["memory_growth"] >= MOST_GROWTH:
        found.append(f"memory grew by {figures['memory_growth']} bytes")
    return found


def _run(
    seconds: float,
    least_faults: int,
    *,
    seed: int,
    server: FaultServer,
    tally: Tally,
    sessions: dict[bool, Any],
) -> int:
    """Let the callers call, and the network misbehave, until the time is up.

    Return the growth of memory in bytes.
    """
    over = threading.Event()

    def work(caller: Caller) -> None:
        while not over.is_set():
            caller.call()

    callers = [Caller(server.url, number, seed, tally, sessions) for number in range(THREADS)]
    threads = [
        threading.Thread(target=work, args=(caller,), name=f"caller {n}")
        for n, caller in enumerate(callers)
    ]
    for thread in threads:
        thread.start()
    chance = random.Random(f"{seed} network")
    until, start = time.monotonic() + seconds, 0
    while time.monotonic() < until or tally.faults < least_faults:
        over.wait(0.05)
        misfortune: Any = chance.choice(("reset", "fin", "rotate", "nothing", "nothing"))
        if misfortune == "rotate":
            sessions[True].get_adapter("http://").rotate()
        elif misfortune != "nothing":
            tally.faults += server.kill_idle(misfortune)
        server.reset_counts()
        if not start and tally.calls > 500:
            start = _resident()
    over.set()
    for thread in threads:
        thread.join(30)
    server.reset_counts()
    return _resident() - start if start else 0


def _resident() -> int:
    """The resident memory of this process in bytes; 0 where the platform does not tell."""
    gc.collect()
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def main() -> int:
    """Run a campaign from the command line; exit with 1 on anything that must not be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--least-faults", type=int, default=0)
    options = parser.parse_args()
    figures = campaign(options.seconds, options.seed, least_faults=options.least_faults)
    print(json.dumps(figures))  # noqa: T201  # the figures are its purpose
    found = complaints(figures)
    sys.stderr.writelines(f"{each}\n" for each in found)
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
