"""A number of seconds on the command line."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["up_to"]


def up_to(longest: float) -> Callable[[str], float]:
    """Return what argparse is to read an argument with: seconds above 0, and no more than so many."""

    def seconds(text: str) -> float:
        value = float(text)
        if not (math.isfinite(value) and 0 < value <= longest):
            raise argparse.ArgumentTypeError(
                f"must be seconds above 0, at most {longest:g}, not {text!r}"
            )
        return value

    return seconds
