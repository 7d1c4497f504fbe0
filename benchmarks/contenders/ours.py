"""requests with a ResilientAdapter, and iter_events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import requests

from benchmarks.contenders import plain
from benchmarks.contenders._contender import DONE
from resilient_requests import ResilientAdapter, iter_events

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Contender"]

_ANY_SIZE = 1 << 40


class Contender(plain.Contender):
    """With its defaults."""

    def make_session(self) -> requests.Session:
        session = requests.Session()
        adapter = ResilientAdapter()
        session.mount("http://", adapter)
        session.mount("https://", adapter)
        return session

    def events(self, path: str) -> Iterator[Any]:
        with iter_events(self.stream(path)) as stream:
            for event in stream:
                if event.data != DONE:
                    yield event.json()

    def data(self, path: str) -> Iterator[Any]:
        with iter_events(self.stream(path), max_event_bytes=_ANY_SIZE) as stream:
            for event in stream:
                yield event.data
