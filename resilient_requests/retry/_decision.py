"""Whether an operation is sent again: a pure function of the facts."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from resilient_requests.retry._rules import Rule, When

if TYPE_CHECKING:
    from resilient_requests.retry._policy import RetryPolicy

__all__ = ["Decision", "Facts", "decide"]

# Servers say with these that they did nothing: any request may be repeated.
_NOT_HANDLED = frozenset({429, 503})


class Facts(NamedTuple):
    """What a decision depends on, beside the rule and the policy.

    ``retries``: made so far; ``has_retried_free``, ``has_retried_timeout``: what is granted once;
    ``idempotent`` and ``replayable``: the request; ``status``: of the response (None without one);
    ``remaining``: seconds until the deadline (None: there is none).
    """

    retries: int
    idempotent: bool
    replayable: bool = True
    status: int | None = None
    has_retried_free: bool = False
    has_retried_timeout: bool = False
    remaining: float | None = None


class Decision(NamedTuple):
    """``again`` after ``wait`` seconds for ``cost`` tokens; or not, for this ``reason`` ("" where again)."""

    again: bool
    wait: float = 0.0
    cost: int = 0
    reason: str = ""


def decide(rule: Rule, policy: RetryPolicy, facts: Facts, wait: float = 0.0) -> Decision:
    """Return what follows; the same facts give the same decision. ``wait``: what the strategy wants."""
    if not _is_due(rule, policy, facts):
        return Decision(again=False, reason="policy")
    if facts.retries >= policy.max_retries:
        return Decision(again=False, reason="exhausted")
    if not facts.replayable:
        return Decision(again=False, reason="not replayable")
    is_free = rule.at_once and (rule.cost == 0 or not facts.has_retried_free)
    wait = 0.0 if is_free else wait
    if facts.remaining is not None and wait >= facts.remaining:
        return Decision(again=False, reason="deadline")
    return Decision(again=True, wait=wait, cost=0 if is_free else rule.cost)


def _is_due(rule: Rule, policy: RetryPolicy, facts: Facts) -> bool:
    if rule.when is When.LISTED:
        return facts.idempotent or facts.status in _NOT_HANDLED
    if rule.when is When.CONFIGURED:
        once = policy.retry_response_timeout and not facts.has_retried_timeout
        return once and facts.idempotent
    return rule.when is When.ALWAYS or (rule.when is When.IDEMPOTENT and facts.idempotent)
