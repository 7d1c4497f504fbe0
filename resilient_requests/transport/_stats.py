"""The figures of an adapter as its users see them, and the outcome of a rotation."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["AdapterStats", "OriginStats", "Rotation", "hint"]

# Fewer dead connections, or a smaller part of all reuses, occur in any network.
_ENOUGH = 3
_PART = 0.5
_MOST = 10.0  # the default of KeepAlivePolicy.expiry


def hint(ages: Collection[tuple[float, bool]]) -> str | None:
    """Return advice on the idle window from the fates of reused connections; None without any.

    ``ages``: seconds idle, and True if the connection was dead.
    """
    dead = [age for age, is_dead in ages if is_dead]
    if len(dead) < _ENOUGH:
        return None
    limit = _rounded_down(min(dead))
    older = sum(age >= limit for age, _ in ages)
    if len(dead) < _PART * older:
        return None
    window = _rounded_down(min(limit / 2, _MOST))
    reset = f"{len(dead)} of {older} reuses older than {limit:g} s were reset"
    return f"{reset}: keepalive={window:g} would have avoided them"


def _rounded_down(seconds: float) -> float:
    return float(math.floor(seconds)) if seconds >= _MOST else math.floor(seconds * 100) / 100


@dataclass(frozen=True, kw_only=True, repr=False)
class OriginStats:
    """The figures of one origin; immutable.

    Connections ``opened``, ``reused``, ``recycled`` (closed instead of being reused) and ``stale``
    (dead when reused). ``retries`` counts attempts that were repeated. ``window`` is the idle
    window in force, in seconds; a server's hint may shorten it. ``youngest_stale`` is the least
    idle age, in seconds, at which a connection was dead, None without one. ``hint`` is advice on
    your settings, None without any. Both look at the last 256 reuses. ``address`` is the one that
    the last dial reached and the next tries first, None without one.
    """

    opened: int
    reused: int
    recycled: int
    stale: int
    retries: int
    window: float
    youngest_stale: float | None
    hint: str | None
    address: str | None = None

    def __repr__(self) -> str:
        return f"<OriginStats {self}>"

    def __str__(self) -> str:
        text = f"{_counts(self)} window={self.window:.3g}"
        if self.youngest_stale is not None:
            text += f" youngest_stale={self.youngest_stale:.3g}"
        if self.address is not None:
            text += f" address={self.address}"
        return text if self.hint is None else f"{text} ({self.hint})"


@dataclass(frozen=True, kw_only=True, repr=False)
class AdapterStats:
    """The figures of one adapter at one moment; immutable. ``repr`` has a line for each origin.

    ``in_flight`` counts calls, ``idle`` pooled connections. ``origins`` is keyed by
    "scheme://host:port". The key "*" holds the counts of forgotten origins: beyond 512
    origins, those without a pool are forgotten.
    """

    generation: int
    in_flight: int
    idle: int
    origins: dict[str, OriginStats]

    def __repr__(self) -> str:
        now = f"generation={self.generation} in_flight={self.in_flight} idle={self.idle}"
        return (
            "\n  ".join(
                [
                    f"<AdapterStats {now} {_counts(self)}",
                    *(f"{name} {each}" for name, each in self.origins.items()),
                ]
            )
            + ">"
        )

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

    @property
    def retries(self) -> int:
        """Attempts that were repeated, over all origins."""
        return sum(each.retries for each in self.origins.values())


def _counts(stats: AdapterStats | OriginStats) -> str:
    names = ("opened", "reused", "recycled", "stale", "retries")
    return " ".join(f"{name}={getattr(stats, name)}" for name in names)


class Rotation(enum.Enum):
    """The outcome of a call of ``ResilientAdapter.rotate()``."""

    ROTATED = "rotated"
    """All pooled connections were retired."""
    ALREADY_ROTATED = "already rotated"
    """Nothing changed: all were retired after the generation that the caller had seen."""
    COALESCED = "coalesced"
    """Nothing changed: another call retired all within the last second."""
    CLOSED = "closed"
    """Nothing changed: the adapter was shut down."""
