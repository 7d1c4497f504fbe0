"""requests with a ResilientAdapter, and stream_chat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.contenders import ours
from benchmarks.contenders._contender import BODY, HEADERS
from resilient_requests import stream_chat

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Contender"]

_ASK: dict[str, Any] = {name: each for name, each in BODY.items() if name != "stream"}


class Contender(ours.Contender):
    """Yields deltas, as the OpenAI SDK yields chunks."""

    def events(self, path: str) -> Iterator[Any]:
        with stream_chat(self.session, self.upstream.url(path), headers=HEADERS, **_ASK) as stream:
            yield from stream

    def created(self, chunk: Any) -> int:
        stamp: int = chunk.raw["created"]
        return stamp

    def chat(self, path: str) -> Iterator[Any]:
        return self.events(path)
