"""Plays incidents with both clients, and judges what came of ours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from requests.adapters import HTTPAdapter

from resilient_requests._adapter import ResilientAdapter
from resilient_requests.cli.demo._stage import Outcome, Side
from resilient_requests.retry import RetryPolicy
from resilient_requests.transport import KeepAlivePolicy

if TYPE_CHECKING:
    from resilient_requests.cli.demo._incidents import Incident
    from resilient_requests.cli.demo._stage import MakeAdapter

__all__ = ["Row", "plain_adapter", "play", "resilient_adapter"]

_SKIPPED = Outcome(
    outcome="skipped: not possible on this platform", seconds=0.0, requests=0, applied=0
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One incident as both clients met it; ``as_promised`` is None where the platform lacks what it takes."""

    incident: str
    plain: Outcome
    resilient: Outcome
    as_promised: bool | None


def plain_adapter(**options: Any) -> HTTPAdapter:  # noqa: ARG001  # it has none of our knobs
    """Return what requests mounts by itself."""
    return HTTPAdapter()


def resilient_adapter(**options: Any) -> ResilientAdapter:
    """Return ours, with its defaults where no option is given, whatever the environment says."""
    return ResilientAdapter(
        **{
            "max_retries": RetryPolicy(),
            "keepalive": KeepAlivePolicy(),
            "idempotency_keys": True,
            **options,
        }
    )


def play(incident: Incident, make_adapter: MakeAdapter = resilient_adapter) -> Row:
    """Play one incident; both clients meet it at the same time, each with a server of its own."""
    if not incident.possible:
        return Row(incident=incident.title, plain=_SKIPPED, resilient=_SKIPPED, as_promised=None)
    sides = (
        Side(incident.plain, plain_adapter, incident.limit),
        Side(incident.resilient, make_adapter, incident.promise.within),
    )
    plain, resilient = (side.outcome() for side in sides)
    kept = incident.promise.is_kept_by(resilient)
    return Row(incident=incident.title, plain=plain, resilient=resilient, as_promised=kept)
