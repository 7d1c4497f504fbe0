"""One side of an incident: a server, a session, and what came of it within bounded time."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import requests

from resilient_requests.call import describe
from resilient_requests.testing import FaultServer, respond

if TYPE_CHECKING:
    from requests.adapters import HTTPAdapter

__all__ = ["WARM_UP", "MakeAdapter", "Outcome", "Play", "Promise", "Side", "Stage"]

WARM_UP = "/warm-up"
"""Requests to this path only fill the pool: they are not counted."""

_PREPARATION = 10.0  # seconds for what comes before the incident


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of an incident: in words, after how many seconds, and what the server read and acted upon."""

    outcome: str
    seconds: float
    requests: int
    applied: int


@dataclass(frozen=True, kw_only=True)
class Promise:
    """What must come of an incident: the beginning of the outcome, exact counts, and a limit in seconds.

    The limit tells an end from a hang, also on a machine that has much else to do.
    """

    outcome: str
    requests: int
    applied: int
    within: float = 5.0

    def is_kept_by(self, outcome: Outcome) -> bool:
        """Return whether an outcome is what was promised."""
        return (
            outcome.outcome.startswith(self.outcome)
            and (outcome.requests, outcome.applied) == (self.requests, self.applied)
            and outcome.seconds <= self.within
        )


class Stage:
    """What one side of an incident plays on: its own server and session; used by one thread at a time."""

    def __init__(self, make_adapter: MakeAdapter) -> None:
        self._make_adapter = make_adapter
        self._cleanup = contextlib.ExitStack()
        self._server: FaultServer | None = None
        self.begun = threading.Event()
        self.since = self.until = 0.0  # monotonic time

    def serve(self, *replies: Any, **options: Any) -> FaultServer:
        """Start the server; the arguments are FaultServer's."""
        self._server = self._cleanup.enter_context(FaultServer(*replies, **options))
        self._server.route(WARM_UP, respond(b"ok", applies=False))
        return self._server

    def session(self, **options: Any) -> requests.Session:
        """Return a session over this side's adapter, which gets the options."""
        return self.mounted(self._make_adapter(**options))

    def mounted(self, adapter: HTTPAdapter) -> requests.Session:
        """Return a session over an adapter; the machine's proxies have no part in this."""
        session = self._cleanup.enter_context(requests.Session())
        session.trust_env = False
        session.mount("http://", adapter)
        return session

    def adapter_name(self) -> str:
        """Return "module:name" of this side's adapter, for another process."""
        kind = type(self._make_adapter())
        return f"{kind.__module__}:{kind.__qualname__}"

    def begin(self) -> None:
        """All is prepared: the incident begins."""
        self.since = time.monotonic()
        self.begun.set()

    def end(self) -> None:
        """The incident is over, whatever came of it."""
        self.until = time.monotonic()
        self.since = self.since or self.until
        self.begun.set()

    def counts(self) -> tuple[int, int]:
        """Return how many requests the server has read, and how many it has acted upon."""
        if self._server is None:
            return 0, 0
        return sum(
            request.path != WARM_UP for request in self._server.requests
        ), self._server.applied

    def close(self) -> None:
        """Close server and session, which also ends whoever still waits for an answer."""
        self._cleanup.close()


MakeAdapter: TypeAlias = "Callable[..., HTTPAdapter]"
Play: TypeAlias = Callable[[Stage], str]


class Side:
    """One play in a thread of its own, which is left behind when it does not come to an end."""

    def __init__(self, play: Play, make_adapter: MakeAdapter, limit: float) -> None:
        self._play = play
        self._limit = limit
        self._said: str | None = None
        self._stage = Stage(make_adapter)
        self._thread = threading.Thread(target=self._run, name="demo", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            said = self._play(self._stage)
        except Exception as error:  # noqa: BLE001  # whatever comes is what is to be shown
            said = _in_words(error)
        self._stage.end()
        self._said = said

    def outcome(self) -> Outcome:
        """Wait for the end, at most so long as the limit says, and return what came of it."""
        stage = self._stage
        stage.begun.wait(_PREPARATION)
        self._thread.join(
            max(stage.since + self._limit - time.monotonic(), 0.0) if stage.since else 0.0
        )
        said = self._said
        seconds = self._limit if said is None else stage.until - stage.since
        requests_, applied = stage.counts()
        stage.close()
        return Outcome(
            outcome=said or f"still hanging after {self._limit:g} s",
            seconds=round(seconds, 3),
            requests=requests_,
            applied=applied,
        )


def _in_words(error: Exception) -> str:
    words = describe(error)
    attempts = len(getattr(error, "attempts", ()))
    partial = getattr(error, "partial", None)
    if partial is not None:
        words += f", partial: {partial.content!r}"
    return f"{words} after {attempts} attempts" if attempts > 1 else words
