"""The number of interpreted calls of a request and an event: the same on every machine."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests

import resilient_requests
from resilient_requests import ResilientAdapter, iter_events
from resilient_requests.testing import respond, stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from resilient_requests.testing import FaultServer

PACKAGE = str(Path(resilient_requests.__file__).parent)
EVENTS = 100
# A line that passes through another function is easily added, and never noticed.
MOST_FUNCTIONS = 152
MOST_MODULES = 33
MOST_CALLS_PER_EVENT = 10.0


def calls_of(act: Callable[[], object]) -> Counter[tuple[str, str]]:
    """Return how often each function was called, by file and name."""
    calls: Counter[tuple[str, str]] = Counter()

    def count(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            calls[frame.f_code.co_filename, frame.f_code.co_name] += 1

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        act()
    finally:
        sys.setprofile(before)
    return calls


@pytest.fixture
def session() -> Iterator[requests.Session]:
    """A session as users make it, where nothing else counts as ours."""
    if sys.gettrace() is not None:
        pytest.skip("coverage's tracer is counted too: run this without --cov")
    with requests.Session() as session:
        session.mount("http://", ResilientAdapter())
        yield session


def test_a_warm_post_passes_few_functions(
    session: requests.Session, fault_server: FaultServer
) -> None:
    """A reader who follows one call from end to end has to read them all."""
    fault_server.script(*[respond(b"{}")] * 4)
    for _ in range(3):
        session.post(fault_server.url, json={})

    calls = calls_of(lambda: session.post(fault_server.url, json={}))

    ours = [place for place in calls if place[0].startswith(PACKAGE)]
    ours = [place for place in ours if f"{PACKAGE}/testing" not in place[0]]
    assert len(ours) <= MOST_FUNCTIONS
    assert len({file for file, _ in ours}) <= MOST_MODULES


def test_an_event_that_arrives_alone_takes_few_calls(
    session: requests.Session, fault_server: FaultServer
) -> None:
    """The count is of all of Python, ours and the libraries': requests' own loop takes twelve."""
    items = [each for n in range(EVENTS) for each in (b"data: %d\n\n" % n, 0.002)]
    fault_server.script(stream(items))
    events = iter_events(session.get(fault_server.url, stream=True))
    next(events)

    calls = calls_of(lambda: list(events))

    assert sum(calls.values()) / (EVENTS - 1) <= MOST_CALLS_PER_EVENT
