"""What is measured, and what is aimed at; each measure runs in client processes."""

from __future__ import annotations

import gc
import http.client
import resource
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import requests
from requests.adapters import HTTPAdapter

from benchmarks.contenders._contender import BODY, HEADERS, Contender
from resilient_requests import ResilientAdapter

__all__ = ["MEASURES", "Goal", "Measure", "Sample"]

Sample = dict[str, float]
"""Figures of one run, by name."""

_CALLERS = ("raw", "plain", "retry", "tenacity", "ours", "httpx", "openai", "niquests")
_READERS = ("raw", "plain", "ours", "ours_lines", "sseclient", "requests_sse", "httpx", "openai", "niquests")


@dataclass(frozen=True)
class Goal:
    """A figure of ours that must not exceed ``goal``; ``hard`` is what to be proud of.

    The figure is ``of`` ("cpu" and the like) of ``ours``, divided by that of ``against`` (None: as it is; where
    ``less``: minus that), all within one round.
    """

    text: str
    goal: float
    hard: float
    of: str = "cpu"
    ours: str = "ours"
    against: str | None = None
    less: bool = False
    unit: str = ""


class Measure(ABC):
    """One question; ``run`` is called once per round in each contender's process."""

    name: ClassVar[str]
    title: ClassVar[str]
    contenders: ClassVar[tuple[str, ...]]
    goals: ClassVar[tuple[Goal, ...]]
    fresh_process = False
    """Whether each round needs a process of its own, because memory is measured."""
    most_rounds = 1000

    @abstractmethod
    def is_able(self, contender: Contender) -> bool:
        """Whether this contender can take part."""

    @abstractmethod
    def run(self, contender: Contender) -> Sample:
        """Measure once."""


def timed(work: Callable[[], object], units: int) -> Sample:
    """Return the seconds of CPU time and of wall time that ``work`` took, per unit."""
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return {"cpu": (time.process_time() - cpu) / units, "wall": (time.perf_counter() - wall) / units}


def exhaust(items: Iterator[Any]) -> int:
    """Take everything; return how many there were."""
    count = 0
    for _ in items:
        count += 1
    return count


def peak() -> float:
    """Return the most memory this process has had so far, in MB."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (1e6 if sys.platform == "darwin" else 1e3)


class _Calls(Measure):
    path: ClassVar[str]
    calls: ClassVar[int]
    contenders = _CALLERS

    def is_able(self, contender: Contender) -> bool:
        return contender.can("post") and (contender.upstream.https > 0 or not self.path.startswith("tls:"))

    def run(self, contender: Contender) -> Sample:
        def work() -> None:
            for _ in range(self.calls):
                contender.post(self.path)

        return timed(work, self.calls)


class KeepAlive(_Calls):
    name = "post"
    title = "POST on a kept-alive connection"
    path, calls = "/post", 100
    goals = (Goal("a POST / plain HTTPAdapter", 1.05, 1.00, against="plain"),)


class FreshTLS(_Calls):
    name = "tls"
    title = "request on a fresh TLS connection"
    path, calls = "tls:/fresh", 20
    goals = (Goal("a request on a fresh TLS connection / plain requests", 0.10, 0.07, against="plain"),)


class Layers(Measure):
    """Everything of the adapter but sockets: ``HTTPAdapter.send`` is replaced, then the pool's queue is all there is."""

    name = "layers"
    title = "layers alone, no socket"
    contenders = ("ours",)
    goals = (
        Goal("retry layer around a GET, alone", 3.0, 1.0, of="retry", unit="µs"),
        Goal("the same with the Idempotency-Key of a POST", 3.0, 1.0, of="key", unit="µs"),
        Goal("checking, stamping and pooling a connection, beyond urllib3's", 3.0, 1.0, of="idle", unit="µs"),
    )

    def is_able(self, contender: Contender) -> bool:
        return contender.can("post")

    def run(self, contender: Contender) -> Sample:
        return {"retry": _retry_layer("GET"), "key": _retry_layer("POST"), "idle": _idle_layer(contender)}


def _per_call(work: Callable[[], object], times: int) -> float:
    """Return microseconds of CPU per call: the least of five runs, since a microbenchmark can only be disturbed."""
    work()
    best = float("inf")
    for _ in range(5):
        cpu = time.process_time()
        for _ in range(times):
            work()
        best = min(best, time.process_time() - cpu)
    return best / times * 1e6


def _retry_layer(method: str) -> float:
    request = requests.Request(method, "http://127.0.0.1/", headers=HEADERS, json=BODY).prepare()
    answer = requests.Response()
    answer.status_code, answer._content = 200, b""
    stub: Any = lambda self, request, **kwargs: answer  # noqa: E731, ARG005
    stock = HTTPAdapter.send
    HTTPAdapter.send = stub  # type: ignore[method-assign]
    try:
        plain, ours = HTTPAdapter(), ResilientAdapter()
        kwargs: Any = {"stream": False, "timeout": None, "verify": True, "cert": None, "proxies": {}}
        alone = _per_call(lambda: plain.send(request, **kwargs), 2000)
        return _per_call(lambda: ours.send(request, **kwargs), 2000) - alone
    finally:
        HTTPAdapter.send = stock  # type: ignore[method-assign]


def _idle_layer(contender: Contender) -> float:
    """Take a live connection out of its pool and put it back."""

    def turn(adapter: HTTPAdapter) -> float:
        with requests.Session() as session:
            session.mount("http://", adapter)
            request = requests.Request("POST", contender.upstream.url("/post"), json=BODY).prepare()
            assert session.send(request).content
            pool: Any = adapter.get_connection_with_tls_context(request, True)
            return _per_call(lambda: pool._put_conn(pool._get_conn()), 2000)

    return turn(ResilientAdapter()) - turn(HTTPAdapter())


MEASURES: dict[str, Measure] = {each.name: each for each in (KeepAlive(), FreshTLS(), Layers())}
