"""requests' own functions, after install()."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.contenders import plain
from resilient_requests import install

if TYPE_CHECKING:
    from benchmarks.contenders._contender import Upstream

__all__ = ["Contender"]


class Contender(plain.Contender):
    """For a process of its own: nothing takes the adapter out again."""

    def __init__(self, upstream: Upstream) -> None:
        install()
        super().__init__(upstream)
