"""requests with a ResilientAdapter, and iter_events whose JSON nobody asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.contenders import ours
from benchmarks.contenders._contender import DONE
from resilient_requests import iter_events

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Contender"]


class Contender(ours.Contender):
    """Yields the events themselves."""

    def events(self, path: str) -> Iterator[Any]:
        with iter_events(self.stream(path)) as stream:
            for event in stream:
                if event.data != DONE:
                    yield event
