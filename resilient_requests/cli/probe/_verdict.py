"""What the findings mean: where the limit is, whose it is, and which window to set. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from resilient_requests.cli.probe._line import Finding, Result
from resilient_requests.transport import KeepAlivePolicy

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Rung", "Verdict", "bracket", "judge", "keepalive_helps"]

_NOTICED = frozenset({Result.CLOSED, Result.RESET_IDLE})
_BAD = _NOTICED | {Result.RESET, Result.BLACK_HOLE}
_DEFAULT = KeepAlivePolicy()


@dataclass(frozen=True, kw_only=True)
class Rung:
    """A connection that was idle for ``idle`` seconds; ``refined``: tried to narrow the limit down.

    ``probed``: with TCP keep-alive on. ``control``: seconds that a fresh connection and its answer took, where one
    was tried.
    """

    idle: float
    finding: Finding
    refined: bool = False
    probed: bool = False
    control: float | None = None

    @property
    def result(self) -> Result:
        """What became of it."""
        return self.finding.result

    @property
    def is_bad(self) -> bool:
        """Whether idleness has cost the connection."""
        return self.result in _BAD


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Where idle connections end: between ``last_good`` and ``first_bad`` seconds, by whose doing ("path" or "server").

    ``with_notice``: the end can be seen before the next use. ``keepalive``: the window to set, None where none is
    needed; ``reason`` in words. ``is_conclusive``: at least one connection could be judged.
    """

    side: str | None
    last_good: float
    first_bad: float | None
    with_notice: bool
    keepalive: float | None
    reason: str
    is_conclusive: bool = True


def bracket(rungs: Sequence[Rung]) -> tuple[float, float | None]:
    """Return the idle times between which the limit lies: the last good one, and the first bad one or None."""
    bad = min((each.idle for each in rungs if each.is_bad), default=None)
    good = [
        each.idle
        for each in rungs
        if each.result is Result.REUSED and (bad is None or each.idle < bad)
    ]
    return max(good, default=0.0), bad


def judge(rungs: Sequence[Rung], hint: float | None) -> Verdict:
    """Return what plain connections (without TCP keep-alive) have shown; ``hint``: the server's, in seconds."""
    last_good, first_bad = bracket(rungs)
    if first_bad is None:
        return _without_limit(rungs, last_good)
    # A FIN that came through, however late, shows that the path had not forgotten the connection.
    is_server = any(each.result is Result.CLOSED and each.idle >= first_bad for each in rungs)
    first = next(each for each in rungs if each.idle == first_bad)
    with_notice = is_server or first.result in _NOTICED
    window, reason = _window(last_good, hint)
    # What ends with notice is replaced before it is used; only within a short window is the race worth avoiding.
    is_needed = not with_notice or window < _DEFAULT.expiry
    return Verdict(
        side="server" if is_server else "path",
        last_good=last_good,
        first_bad=first_bad,
        with_notice=with_notice,
        keepalive=window if is_needed else None,
        reason=reason if is_needed else "the default window is well below that",
    )


def _without_limit(rungs: Sequence[Rung], last_good: float) -> Verdict:
    is_kept = not any(each.result is Result.NOT_KEPT for each in rungs)
    reason = "idle connections survive" if last_good else "no connection could be judged"
    return Verdict(
        side=None,
        last_good=last_good,
        first_bad=None,
        with_notice=False,
        keepalive=None,
        reason=reason
        if is_kept
        else "the server ends each connection after one answer: none is ever idle",
        is_conclusive=bool(last_good) or not is_kept,
    )


def _window(last_good: float, hint: float | None) -> tuple[float, str]:
    """Return the window in seconds, rounded down, and where it comes from."""
    choices = [
        (last_good / 2, f"half of the {last_good:g} s that were survived"),
        (_DEFAULT.expiry, f"the default, below half of the {last_good:g} s that were survived"),
    ]
    if hint is not None:
        margin = _DEFAULT.hint_margin
        choices.append(
            (
                max(hint - margin, 0.0),
                f"the server's hint of {hint:g} s, less a margin of {margin:g} s",
            )
        )
    window, reason = min(choices)
    return math.floor(round(window * 10, 6)) / 10, reason


def keepalive_helps(plain: Sequence[Rung], probed: Sequence[Rung]) -> bool | None:
    """Return whether connections with TCP keep-alive outlive the limit of others; None where that is not known."""
    _, first_bad = bracket(plain)
    beyond = [each for each in probed if first_bad is not None and each.idle >= first_bad]
    judged = [each for each in beyond if each.is_bad or each.result is Result.REUSED]
    return all(each.result is Result.REUSED for each in judged) if judged else None
