"""Plays one incident with both clients, in bounded time."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import requests
from requests.adapters import HTTPAdapter

from resilient_requests.adapter import ResilientAdapter
from resilient_requests.call import Timeouts, describe
from resilient_requests.retry import RetryPolicy
from resilient_requests.testing import FaultServer, respond
from resilient_requests.transport import KeepAlivePolicy

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "WARM_UP",
    "Incident",
    "MakeAdapter",
    "Outcome",
    "Play",
    "Promise",
    "Row",
    "Stage",
    "plain_adapter",
    "play",
    "resilient_adapter",
]

WARM_UP = "/warm-up"
"""Requests to this path only fill the pool: they are not counted."""

_PREPARATION = 10.0  # seconds for the preparations


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How an incident ended: in words, in seconds, and in the server's counts.

    ``requests`` and ``applied``: the numbers of requests that the server read, and acted upon.
    """

    outcome: str
    seconds: float
    requests: int
    applied: int


@dataclass(frozen=True, kw_only=True)
class Promise:
    """How an incident must end: the beginning of its outcome, exact counts, a limit in seconds.

    The limit tells an end from a hang, even on a busy machine.
    """

    outcome: str
    requests: int
    applied: int
    within: float = 5.0

    def is_kept_by(self, outcome: Outcome) -> bool:
        """Return whether an outcome keeps the promise."""
        return (
            outcome.outcome.startswith(self.outcome)
            and (outcome.requests, outcome.applied) == (self.requests, self.applied)
            and outcome.seconds <= self.within
        )


@dataclass(frozen=True, kw_only=True)
class Incident:
    """The events of an incident, how either client meets it, and how it must end for ours.

    ``limit``: seconds after which plain requests counts as hanging. ``possible``: False if the
    platform lacks something that the incident needs.
    """

    title: str
    plain: Play
    resilient: Play
    promise: Promise
    limit: float = 2.0
    possible: bool = True


@dataclass(frozen=True, kw_only=True)
class Row:
    """One incident as both clients met it.

    ``as_promised`` is None if the platform lacks something that the incident needs.
    """

    incident: str
    plain: Outcome
    resilient: Outcome
    as_promised: bool | None


_SKIPPED = Outcome(
    outcome="skipped: not possible on this platform", seconds=0.0, requests=0, applied=0
)


def plain_adapter(**options: Any) -> HTTPAdapter:  # noqa: ARG001  # it has none of our options
    """Return requests' own adapter."""
    return HTTPAdapter()


def resilient_adapter(**options: Any) -> ResilientAdapter:
    """Return our adapter; where no option is given it has its defaults, not the environment's."""
    defaults: dict[str, Any] = {
        "max_retries": RetryPolicy(),
        "keepalive": KeepAlivePolicy(),
        "timeouts": Timeouts(),
    }
    return ResilientAdapter(**{**defaults, **options})


def play(incident: Incident, make_adapter: MakeAdapter = resilient_adapter) -> Row:
    """Play an incident with both clients at the same time, each with a server of its own."""
    if not incident.possible:
        return Row(incident=incident.title, plain=_SKIPPED, resilient=_SKIPPED, as_promised=None)
    with (
        _Side(incident.plain, plain_adapter, incident.limit) as plain_side,
        _Side(incident.resilient, make_adapter, incident.promise.within) as our_side,
    ):
        plain, ours = plain_side.outcome(), our_side.outcome()
    kept = incident.promise.is_kept_by(ours)
    return Row(incident=incident.title, plain=plain, resilient=ours, as_promised=kept)


class Stage:
    """The scene of one client: its own server and session; used by one thread at a time."""

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
        """Return a session over this client's adapter, which gets the options."""
        return self.mounted(self._make_adapter(**options))

    def mounted(self, adapter: HTTPAdapter) -> requests.Session:
        """Return a session over an adapter, without the machine's proxies."""
        session = self._cleanup.enter_context(requests.Session())
        session.trust_env = False
        session.mount("http://", adapter)
        return session

    def adapter_name(self) -> str:
        """Return "module:name" of this client's adapter, for use in another process."""
        kind = type(self._make_adapter())
        return f"{kind.__module__}:{kind.__qualname__}"

    def begin(self) -> None:
        """Mark the end of the preparations and the beginning of the incident."""
        self.since = time.monotonic()
        self.begun.set()

    def end(self) -> None:
        """Mark the end of the incident."""
        self.until = time.monotonic()
        self.since = self.since or self.until
        self.begun.set()

    def counts(self) -> tuple[int, int]:
        """Return how many requests the server has read, and how many it has acted upon."""
        if self._server is None:
            return 0, 0
        read = sum(request.path != WARM_UP for request in self._server.requests)
        return read, self._server.applied

    def close(self) -> None:
        """Close server and session, which also ends a call that still waits for its answer."""
        self._cleanup.close()


MakeAdapter: TypeAlias = "Callable[..., HTTPAdapter]"
Play: TypeAlias = Callable[[Stage], str]


class _Side:
    """One play in a thread of its own, which is abandoned if the play does not end."""

    def __init__(self, play: Play, make_adapter: MakeAdapter, limit: float) -> None:
        self._play = play
        self._limit = limit
        self._said: str | None = None
        self._stage = Stage(make_adapter)
        self._thread = threading.Thread(target=self._run, name="demo", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stage.close()

    def _run(self) -> None:
        try:
            said = self._play(self._stage)
        except Exception as error:  # noqa: BLE001  # the table shows any error
            said = _in_words(error)
        self._stage.end()
        self._said = said

    def outcome(self) -> Outcome:
        """Wait for the end, at most until the limit, and return the outcome."""
        stage = self._stage
        stage.begun.wait(_PREPARATION)
        left = stage.since + self._limit - time.monotonic() if stage.since else 0.0
        self._thread.join(max(left, 0.0))
        said = self._said
        seconds = self._limit if said is None else stage.until - stage.since
        read, applied = stage.counts()
        return Outcome(
            outcome=said or f"still hanging after {self._limit:g} s",
            seconds=round(seconds, 3),
            requests=read,
            applied=applied,
        )


def _in_words(error: Exception) -> str:
    words = describe(error)
    attempts = len(getattr(error, "attempts", ()))
    partial = getattr(error, "partial", None)
    if partial is not None:
        words += f", partial: {partial.content!r}"
    return f"{words} after {attempts} attempts" if attempts > 1 else words
