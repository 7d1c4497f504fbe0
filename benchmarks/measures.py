"""The measures and their goals; each measure runs in client processes."""

from __future__ import annotations

import gc
import random
import resource
import ssl
import statistics
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import requests
from requests.adapters import HTTPAdapter

from benchmarks.contenders._contender import BODY, HEADERS, Contender
from resilient_requests import AttemptStarted, ResilientAdapter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["MEASURES", "Goal", "Measure", "Sample"]

Sample = dict[str, float]
"""Figures of one run, by name."""

_CALLERS = ("raw", "plain", "timeout", "retry", "tenacity", "ours", "httpx", "openai", "niquests")
_READERS = (
    "raw",
    "plain",
    "ours",
    "ours_lines",
    "sseclient",
    "requests_sse",
    "httpx",
    "openai",
    "niquests",
)
_FUNCTION_CALLS = 20
_FRAMINGS = {
    "chunked": "chunks of 64 KiB",
    "each": "one chunk per event",
    "close": "ended by closing",
    "gzip": "gzip",
    "tls": "TLS, chunks of 64 KiB",
}


@dataclass(frozen=True)
class Goal:
    """A figure of ours that must not exceed ``goal``; ``hard`` is a figure to be proud of.

    The figure is ``of`` of ``ours``. With ``against`` it is the ratio to that contender's figure of
    the same round, or the difference if ``is_difference`` is set. ``factor`` turns it into
    ``unit``.
    """

    text: str
    goal: float
    hard: float
    of: str = "cpu"
    ours: str = "ours"
    against: str | None = None
    is_difference: bool = False
    factor: float = 1.0
    unit: str = ""


class Measure(ABC):
    """One question. ``run`` is called once per round in each contender's process."""

    name: str
    title: str
    contenders: tuple[str, ...]
    goals: tuple[Goal, ...]
    unit = "µs of CPU per event"
    shown: tuple[str, float] = ("cpu", 1e6)
    """The figure that contenders are compared by, and the factor that turns it into ``unit``."""
    is_fresh = False
    """True if each round needs a new process, because memory is measured."""
    most_rounds = 1000
    is_tls = False
    needs = "events"

    def is_able(self, contender: Contender) -> bool:
        """True if this contender can take part."""
        return contender.can(self.needs) and (not self.is_tls or contender.upstream.https > 0)

    @abstractmethod
    def run(self, contender: Contender) -> Sample:
        """Measure once."""


def _timed(work: Callable[[], object], units: int) -> Sample:
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return {
        "cpu": (time.process_time() - cpu) / units,
        "wall": (time.perf_counter() - wall) / units,
    }


def _exhaust(items: Iterator[Any]) -> None:
    for _ in items:
        pass


def _peak() -> float:
    """Return the most memory this process has had so far, in MB."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (1e6 if sys.platform == "darwin" else 1e3)


class Calls(Measure):
    """Calls one after the other, with their answers."""

    needs = "post"
    unit = "µs of CPU per call"
    contenders = _CALLERS

    def __init__(
        self, name: str, title: str, path: str, calls: int, *, goal: float, hard: float
    ) -> None:
        self.name, self.title = name, title
        self.goals = (Goal("CPU / plain HTTPAdapter", goal, hard, against="plain"),)
        self._path, self._calls, self.is_tls = path, calls, path.startswith("tls:")

    def run(self, contender: Contender) -> Sample:
        def work() -> None:
            for _ in range(self._calls):
                contender.post(self._path)

        return _timed(work, self._calls)


class Functions(Measure):
    """Calls by ``requests.post``, which makes a session for each.

    The measure also counts how often a bundle is loaded.
    """

    needs = "function"
    unit = "µs of CPU per call"
    contenders = ("plain", "ours_installed")

    def __init__(self, name: str, title: str, path: str, *, goal: float, hard: float) -> None:
        self.name, self.title = name, title
        cpu = Goal("CPU / without install()", goal, hard, ours="ours_installed", against="plain")
        loads = Goal("bundles loaded per call", 0.05, 0.0, of="loads", ours="ours_installed")
        self.is_tls = path.startswith("tls:")
        self.goals = (cpu, loads) if self.is_tls else (cpu,)
        self._path = path

    def run(self, contender: Contender) -> Sample:
        loads, stock = 0, ssl.SSLContext.load_verify_locations

        def load(*args: Any, **kwargs: Any) -> None:
            nonlocal loads
            loads += 1
            stock(*args, **kwargs)

        def work() -> None:
            for _ in range(_FUNCTION_CALLS):
                contender.function(self._path)

        ssl.SSLContext.load_verify_locations = load  # type: ignore[method-assign]
        try:
            found = _timed(work, _FUNCTION_CALLS)
        finally:
            ssl.SSLContext.load_verify_locations = stock  # type: ignore[method-assign]
        return {**found, "loads": loads / _FUNCTION_CALLS}


class Layers(Measure):
    """The overhead of the adapter, without sockets.

    It is measured around a stub of ``HTTPAdapter.send``, and around a pool's queue.
    """

    name = "layers"
    title = "retry and idle layers alone, no socket"
    needs = "post"
    unit = "µs per call"
    shown = ("retry", 1.0)
    contenders = ("ours",)
    most_rounds = 9
    goals = (
        Goal("retry layer around a GET", 3.0, 1.0, of="retry", unit="µs"),
        Goal("the same around a POST, with its Idempotency-Key", 3.0, 1.0, of="key", unit="µs"),
        Goal(
            "checking, stamping and pooling a connection, beyond urllib3's own",
            3.0,
            1.0,
            of="idle",
            unit="µs",
        ),
        Goal("asking whether anybody observes, per call", 3.0, 1.0, of="emit", unit="µs"),
    )

    def run(self, contender: Contender) -> Sample:
        observers = ResilientAdapter()._observed
        return {
            "retry": _around_stub("GET"),
            "key": _around_stub("POST"),
            "idle": _around_queue(contender, ResilientAdapter())
            - _around_queue(contender, HTTPAdapter()),
            "emit": 3 * _per_call(lambda: observers.wants(AttemptStarted)),
        }


def _per_call(work: Callable[[], object], times: int = 2000) -> float:
    """Return microseconds of CPU per call.

    The figure is the least of five runs, since a disturbance can only make a run slower.
    """
    best = float("inf")
    for _ in range(5):
        cpu = time.process_time()
        for _ in range(times):
            work()
        best = min(best, time.process_time() - cpu)
    return best / times * 1e6


def _around_stub(method: str) -> float:
    request = requests.Request(method, "http://127.0.0.1/", headers=HEADERS, json=BODY).prepare()
    answer = requests.Response()
    answer.status_code, answer._content = 200, b""
    stub: Any = lambda self, request, **kwargs: answer  # noqa: ARG005, E731
    stock: Any = HTTPAdapter.send
    HTTPAdapter.send = stub  # type: ignore[method-assign]
    try:
        plain, ours = HTTPAdapter(), ResilientAdapter()
        kwargs: Any = {
            "stream": False,
            "timeout": None,
            "verify": True,
            "cert": None,
            "proxies": {},
        }
        alone = _per_call(lambda: plain.send(request, **kwargs))
        return _per_call(lambda: ours.send(request, **kwargs)) - alone
    finally:
        HTTPAdapter.send = stock  # type: ignore[method-assign]


def _around_queue(contender: Contender, adapter: HTTPAdapter) -> float:
    with requests.Session() as session:
        session.mount("http://", adapter)
        request = requests.Request("POST", contender.upstream.url("/post"), json=BODY).prepare()
        assert session.send(request).content
        pool: Any = adapter.get_connection_with_tls_context(request, True)
        return _per_call(lambda: pool._put_conn(pool._get_conn()))


def _scheme(framing: str) -> tuple[str, str]:
    return ("tls:", "chunked") if framing == "tls" else ("", framing)


class Burst(Measure):
    """A long stream as fast as it can be read, with the JSON of each event.

    One framing is also read without the JSON.
    """

    contenders: tuple[str, ...] = _READERS

    def __init__(self, framing: str, goal: float) -> None:
        self.name = f"burst-{framing}"
        self.title = f"events in a burst, {_FRAMINGS[framing]}"
        self._events = 10_000
        scheme, framing = _scheme(framing)
        self._path, self.is_tls = f"{scheme}/burst/{framing}/{self._events}", bool(scheme)
        self.goals = (
            Goal("iter_events + json / sockets, split and json", goal, 0.80, against="raw"),
            Goal("the same / requests' iter_lines + json", 1 / 1.2, 1 / 2.0, against="plain"),
            Goal("the same / httpx-sse", 1 / 1.1, 1 / 1.8, against="httpx"),
            Goal("the same / OpenAI SDK", 1 / 15, 1 / 30, against="openai"),
            Goal(
                "legacy iter_lines through our adapter / plain",
                1.0,
                1.0,
                ours="ours_lines",
                against="plain",
            ),
        )
        if self.name == "burst-chunked":
            self.contenders = (*_READERS, "ours_lazy")
            lazy = Goal(
                "iter_events alone / sockets, split and json",
                0.40,
                0.20,
                ours="ours_lazy",
                against="raw",
            )
            self.goals += (lazy,)

    def run(self, contender: Contender) -> Sample:
        return _timed(lambda: _exhaust(contender.events(self._path)), self._events)


class ChatBurst(Measure):
    """The cost of typed deltas.

    A long chat answer is read as fast as possible, one chunk per event.
    """

    name = "burst-chat"
    title = "deltas of a chat answer in a burst, one chunk per event"
    contenders = ("plain", "ours", "ours_chat", "openai")
    goals = (
        Goal(
            "stream_chat / requests' iter_lines + json",
            1.60,
            1.25,
            ours="ours_chat",
            against="plain",
        ),
        Goal("stream_chat / OpenAI SDK", 0.10, 0.07, ours="ours_chat", against="openai"),
    )

    def run(self, contender: Contender) -> Sample:
        return _timed(lambda: _exhaust(contender.events("/burst/each/10000")), 10_000)


class Paced(Measure):
    """An event every 2 ms: system calls count for more than parsing."""

    name = "paced"
    title = "one event every 2 ms"
    contenders = _READERS
    most_rounds = 9
    goals = (Goal("CPU / sockets, split and json", 1.10, 1.00, against="raw"),)

    def run(self, contender: Contender) -> Sample:
        return _timed(lambda: _exhaust(contender.events("/drip/chunked/400/0.002/1")), 400)


class Latency(Measure):
    """From the server's write to the event in the loop."""

    contenders = _READERS
    unit = "µs from write to event (median)"
    shown = ("p50", 1e6)
    most_rounds = 9

    def __init__(self, framing: str) -> None:
        self.name = f"latency-{framing}"
        self.title = f"latency of an event every 5 ms, {_FRAMINGS[framing]}"
        scheme, framing = _scheme(framing)
        self.is_tls = bool(scheme)
        self._path = f"{scheme}/drip/{framing}/240/0.005/1"
        self._pauses = f"{scheme}/drip/{framing}/12/0.25/3"
        self.goals = (
            Goal("median / sockets", 1.5, 1.15, of="p50", against="raw"),
            Goal("events of 12 withheld in a silence of 250 ms", 0, 0, of="withheld"),
            Goal(
                "the same, legacy iter_lines through our adapter",
                0,
                0,
                of="withheld",
                ours="ours_lines",
            ),
        )

    def run(self, contender: Contender) -> Sample:
        delays = _delays(contender, self._path)
        paused = _delays(contender, self._pauses)
        return {
            "p50": statistics.median(delays),
            "withheld": float(sum(delay > 0.1 for delay in paused)),
        }


def _delays(contender: Contender, path: str) -> list[float]:
    created, now = contender.created, time.perf_counter_ns
    return [(now() - created(chunk)) / 1e9 for chunk in contender.events(path)]


class LongLine(Measure):
    """One event whose data is one line, in a new process per figure.

    The figures are those of ``data`` (events) and of ``lines``.
    """

    is_fresh = True
    needs = "lines"
    most_rounds = 5

    def __init__(
        self, name: str, megabytes: int, contenders: tuple[str, ...], goals: tuple[Goal, ...]
    ) -> None:
        self.name, self.title = name, f"one line of {megabytes} MB"
        self.unit, self.shown = "s of CPU", ("cpu", 1.0)
        self.contenders, self.goals = contenders, goals
        self._size = megabytes * 1024 * 1024

    def is_able(self, contender: Contender) -> bool:
        return contender.can("data") or contender.can("lines")

    def run(self, contender: Contender) -> Sample:
        read = contender.data if contender.can("data") else contender.lines
        _exhaust(read("/line/chunked/65536"))
        before = _peak()
        sample = _timed(lambda: _longest(read(f"/line/chunked/{self._size}"), self._size), 1)
        return {**sample, "memory": (_peak() - before) * 1e6 / self._size}


def _longest(items: Iterator[Any], size: int) -> None:
    longest = 0
    for item in items:
        longest = max(longest, len(item))
        del item
    assert longest >= size, longest


class Million(Measure):
    """The memory that a long stream leaves behind."""

    name = "million"
    title = "memory growth over a million events"
    contenders = ("raw", "plain", "ours", "ours_lines", "httpx")
    unit = "MB"
    shown = ("memory", 1.0)
    is_fresh = True
    most_rounds = 3
    goals = (Goal("growth", 4.0, 1.0, of="memory", unit="MB"),)

    def run(self, contender: Contender) -> Sample:
        path = "/repeat/1000/1000"
        _exhaust(contender.events("/repeat/1/1000"))
        gc.collect()
        before = _peak()
        return {
            **_timed(lambda: _exhaust(contender.events(path)), 1_000_000),
            "memory": _peak() - before,
        }


_STREAMS = 100


class Threads(Measure):
    """Many streams at once, 30 events a second each."""

    name = "threads"
    title = "100 threads, 30 events a second each"
    contenders = ("raw", "plain", "ours", "ours_chat", "ours_lines", "httpx", "openai")
    most_rounds = 9
    goals = (
        Goal("CPU per event / sockets, split and json", 1.5, 1.2, against="raw"),
        Goal("the same / requests' iter_lines + json", 0.95, 0.8, against="plain"),
        Goal(
            "stream_chat / requests' iter_lines + json", 1.2, 1.0, ours="ours_chat", against="plain"
        ),
        Goal("stream_chat / OpenAI SDK", 0.09, 0.07, ours="ours_chat", against="openai"),
        Goal(
            "99th percentile of the latency, beyond that of sockets",
            2.0,
            1.0,
            "p99",
            "ours",
            "raw",
            True,
            1e3,
            "ms",
        ),
    )

    def run(self, contender: Contender) -> Sample:
        delays: deque[float] = deque()
        are_open = threading.Barrier(_STREAMS + 1)
        streams = [
            threading.Thread(target=self._stream, args=(contender, are_open, delays))
            for _ in range(_STREAMS)
        ]
        for stream in streams:
            stream.start()
        are_open.wait()
        sample = _timed(lambda: [*map(threading.Thread.join, streams)], _STREAMS * 110)
        return {**sample, "p99": statistics.quantiles(delays, n=100)[-1]}

    def _stream(
        self, contender: Contender, are_open: threading.Barrier, delays: deque[float]
    ) -> None:
        """Measure 110 events of 120: to begin a stream costs more than to read some."""
        time.sleep(random.random() / 30)
        events = contender.events("/drip/chunked/120/0.033/1")
        for _ in range(10):
            next(events)
        are_open.wait()
        passed = [(time.perf_counter_ns() - contender.created(chunk)) / 1e9 for chunk in events]
        delays.extend(passed[20:])  # those before have waited for the other streams


class Chats(Measure):
    """Streams that end with their mark: the reuse of their connections, and its cost."""

    name = "chats"
    title = "20 chat streams, each read to [DONE]"
    contenders = ("plain", "ours", "ours_chat", "httpx", "openai", "niquests")
    needs = "chat"
    unit = "connections opened"
    shown = ("opened", 1.0)
    most_rounds = 9
    goals = (
        Goal(
            "new connections in 20 streams that come whole, iter_lines left at the mark",
            1,
            0,
            of="opened",
        ),
        Goal("the same, stream_chat", 0, 0, of="opened", ours="ours_chat"),
        Goal(
            "the same, streams that come event by event, iter_lines left at the mark",
            1,
            0,
            of="opened_live",
        ),
        Goal("the same, stream_chat", 0, 0, of="opened_live", ours="ours_chat"),
        Goal(
            "wait behind the last chunk of these, stream_chat",
            1,
            1,
            "waited",
            "ours_chat",
            factor=1e3,
            unit="ms",
        ),
    )

    def run(self, contender: Contender) -> Sample:
        opened, _ = self._read(contender, "/burst/each/20")
        opened_live, waited = self._read(contender, "/chat/20/0.002")
        return {"opened": opened, "opened_live": opened_live, "waited": waited}

    def _read(self, contender: Contender, path: str) -> tuple[float, float]:
        """Return two figures of 20 streams: their connections, and the median wait for an end."""
        _waited(contender.chat(path))  # the first connection of all is not one too many
        before = self._accepted(contender)
        waited = statistics.median(_waited(contender.chat(path)) for _ in range(20))
        return float(self._accepted(contender) - before - 1), waited  # but for the one that asks

    def _accepted(self, contender: Contender) -> int:
        with requests.Session() as session:
            return int(
                session.get(
                    contender.upstream.url("/accepted"), headers={"Connection": "close"}
                ).text
            )


def _waited(items: Iterator[Any]) -> float:
    """Return the seconds between the last item and the end of the loop."""
    last = time.perf_counter()
    for _ in items:
        last = time.perf_counter()
    return time.perf_counter() - last


_LINE_GOALS = (
    Goal("2 MB through iter_events", 0.05, 0.02, unit="s"),
    Goal("2 MB through iter_lines", 0.05, 0.02, ours="ours_lines", unit="s"),
)
_LONG_LINE_GOALS = (
    Goal("200 MB through iter_events, max_event_bytes raised", 2.0, 1.0, unit="s"),
    Goal("200 MB through iter_lines", 2.0, 1.0, ours="ours_lines", unit="s"),
    Goal("memory of iter_events, in sizes of the line", 3.0, 2.1, of="memory", unit="x"),
    Goal(
        "memory of iter_lines, in sizes of the line",
        3.0,
        2.1,
        of="memory",
        ours="ours_lines",
        unit="x",
    ),
)
_ALL: tuple[Measure, ...] = (
    Calls("post", "POST on a kept-alive connection", "/post", 400, goal=1.05, hard=1.00),
    Calls("tls", "request on a fresh TLS connection", "tls:/fresh", 10, goal=0.10, hard=0.07),
    Functions(
        "functions", "requests.post() in a loop, without a session", "/post", goal=1.6, hard=1.3
    ),
    Functions(
        "functions-tls", "requests.post() in a loop, over TLS", "tls:/post", goal=0.3, hard=0.2
    ),
    Layers(),
    *(Burst(framing, 1.20 if framing == "each" else 1.10) for framing in _FRAMINGS),
    ChatBurst(),
    Paced(),
    *(Latency(framing) for framing in ("each", "close", "gzip", "tls")),
    LongLine("line-2", 2, ("raw", "plain", "ours", "ours_lines", "httpx"), _LINE_GOALS),
    LongLine("line-200", 200, ("raw", "ours", "ours_lines", "httpx"), _LONG_LINE_GOALS),
    Million(),
    Threads(),
    Chats(),
)
MEASURES: dict[str, Measure] = {each.name: each for each in _ALL}
