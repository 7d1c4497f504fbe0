"""requests with sseclient-py."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import sseclient

from benchmarks.contenders import plain
from benchmarks.contenders._contender import DONE

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Contender"]


class Contender(plain.Contender):
    """Follows its documentation."""

    def events(self, path: str) -> Iterator[Any]:
        for event in sseclient.SSEClient(self.stream(path)).events():
            if event.data != DONE:
                yield json.loads(event.data)
