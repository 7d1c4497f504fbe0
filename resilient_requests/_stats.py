"""What an adapter has done so far, in numbers."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["AdapterStats", "OriginStats"]


@dataclass(frozen=True, kw_only=True)
class OriginStats:
    """Counts for one origin; immutable.

    Connections ``opened``, ``reused``, ``recycled`` (closed instead of being reused) and ``stale`` (dead when
    reused); ``window`` is the idle window in seconds that the origin has taught.
    """

    opened: int
    reused: int
    recycled: int
    stale: int
    window: float


@dataclass(frozen=True, kw_only=True)
class AdapterStats:
    """The counts of one adapter at one moment; immutable.

    ``in_flight`` calls, ``idle`` pooled connections, ``origins`` by "scheme://host:port".
    """

    generation: int
    in_flight: int
    idle: int
    origins: dict[str, OriginStats]

    @property
    def opened(self) -> int:
        """Connections opened, over all origins."""
        return sum(each.opened for each in self.origins.values())

    @property
    def reused(self) -> int:
        """Connections reused, over all origins."""
        return sum(each.reused for each in self.origins.values())

    @property
    def recycled(self) -> int:
        """Connections closed instead of being reused, over all origins."""
        return sum(each.recycled for each in self.origins.values())

    @property
    def stale(self) -> int:
        """Connections that were dead when reused, over all origins."""
        return sum(each.stale for each in self.origins.values())
