"""What reads the body of a response, as far as a diagnosis asks."""

from __future__ import annotations

from typing import Protocol

__all__ = ["BodyReader"]


class BodyReader(Protocol):
    """Asked in any thread, and in a signal handler in the middle of a read."""

    @property
    def is_reading(self) -> bool:
        """Whether a thread is inside of a read."""

    def limit_in(self, silence: float) -> tuple[str, float] | None:
        """Return the limit that ends a silence of so many seconds, and in how many; None: none will."""
