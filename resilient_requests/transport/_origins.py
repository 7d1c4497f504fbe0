"""The origins that one adapter knows: those with a pool, and a bounded number of others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resilient_requests.transport._origin import OriginState

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from resilient_requests.call import Origin

__all__ = ["Origins"]

# Of those without a pool: a crawler must not make an adapter remember all hosts.
_MOST = 512
_FORGOTTEN = "*"


class Origins:
    """A state for each origin, in the order in which their pools were made.

    Its owner's lock guards what changes several; `of` needs none, because ``setdefault`` is atomic.
    """

    def __init__(self, expiry: float, generation: int) -> None:
        self._expiry = expiry
        self._known: dict[Origin, OriginState] = {}
        self._forgotten = OriginState(expiry, generation)

    def of(self, origin: Origin) -> OriginState:
        """Return the state of an origin; a new one where it is not known."""
        known = self._known.get(origin)
        return self._known.setdefault(origin, self._new()) if known is None else known

    def _new(self) -> OriginState:
        # No connection of an origin that was forgotten can be as young as this.
        return OriginState(self._expiry, self._forgotten.floor)

    def has_pool(self, origin: Origin, in_use: Iterable[Origin]) -> None:
        """A pool of an origin was made. Beyond the most, origins that are not ``in_use`` are forgotten."""
        known = self._known.pop(origin, None)
        self._known[origin] = self._new() if known is None else known
        if len(self._known) <= _MOST:
            return
        pooled = set(in_use)
        unused = [each for each in self._known if each not in pooled]
        for each in unused[: len(self._known) - _MOST]:
            self._forgotten.add(self._known.pop(each))

    def relearn(self) -> None:
        """Forget how long the connections of each origin may be idle."""
        for each in list(self._known.values()):  # a finalizer may add one in between
            each.relearn()

    def named(self) -> Iterator[tuple[str, OriginState]]:
        """Yield all by name; "*" for those that were forgotten, where they have counted anything."""
        for origin, state in list(self._known.items()):
            yield str(origin), state
        if self._forgotten.has_counted:
            yield _FORGOTTEN, self._forgotten
