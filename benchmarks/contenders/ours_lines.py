"""requests with a ResilientAdapter under a legacy iter_lines loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.contenders import ours, plain

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Contender"]


class Contender(ours.Contender):
    """Only the adapter is new."""

    def events(self, path: str) -> Iterator[Any]:
        return plain.Contender.events(self, path)

    def data(self, path: str) -> Iterator[Any]:
        return self.lines(path)
