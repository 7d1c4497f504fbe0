"""The origins of one adapter: those with a pool, and a bounded number of others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resilient_requests.transport._origin import OriginState

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from resilient_requests.call import Origin

__all__ = ["Origins"]

# Beyond this number, origins without a pool are forgotten: an adapter of a crawler must not
# remember every host.
_MOST = 512
_FORGOTTEN = "*"


class Origins:
    """The states of the origins, ordered by creation of the pool.

    The lock of the owner guards changes of several states. `of` needs no lock, because
    ``dict.setdefault`` is atomic.
    """

    def __init__(self, expiry: float, generation: int) -> None:
        self._expiry = expiry
        self._known: dict[Origin, OriginState] = {}
        self._forgotten = OriginState(expiry, generation)

    def of(self, origin: Origin) -> OriginState:
        """Return the state of an origin, a new one for an unknown origin."""
        known = self._known.get(origin)
        return self._known.setdefault(origin, self._new()) if known is None else known

    def _new(self) -> OriginState:
        # Connections of a forgotten origin are all older than this floor, so none is reused.
        return OriginState(self._expiry, self._forgotten.floor)

    def add_pool(self, origin: Origin, in_use: Iterable[Origin]) -> None:
        """A pool of an origin was made.

        Beyond the bound, origins that are not ``in_use`` are forgotten, the oldest first.
        """
        known = self._known.pop(origin, None)
        self._known[origin] = self._new() if known is None else known
        if len(self._known) <= _MOST:
            return
        pooled = set(in_use)
        unused = [each for each in self._known if each not in pooled]
        for each in unused[: len(self._known) - _MOST]:
            self._forgotten.add(self._known.pop(each))

    def relearn(self) -> None:
        """Forget the learned idle window of each origin."""
        for each in list(self._known.values()):  # a copy: a finalizer may add an origin meanwhile
            each.relearn()

    def named(self) -> Iterator[tuple[str, OriginState]]:
        """Yield each state by name; "*" holds the counts of forgotten origins, if there are any."""
        for origin, state in list(self._known.items()):
            yield str(origin), state
        if self._forgotten.has_counted:
            yield _FORGOTTEN, self._forgotten
