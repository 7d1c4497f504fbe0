"""The decision on a retry, as a pure function of the facts."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from resilient_requests.retry._rules import Rule, When

if TYPE_CHECKING:
    from resilient_requests.retry._policy import RetryPolicy

__all__ = ["Decision", "Facts", "decide"]

# A server says by these that it did not handle the request (RFC 6585 4, RFC 9110 15.6.4), so any
# request may be sent again.
_NOT_HANDLED = frozenset({429, 503})


class Facts(NamedTuple):
    """The facts of a decision, besides the rule and the policy.

    ``retries`` counts those made so far. ``idempotent`` and ``replayable`` describe the request.
    ``status`` is the response's, None without one. ``has_retried_free`` and ``has_retried_timeout``
    are True if a grant that exists once is used up. ``remaining`` is the seconds until the
    deadline, None without one.
    """

    retries: int
    idempotent: bool
    replayable: bool = True
    status: int | None = None
    has_retried_free: bool = False
    has_retried_timeout: bool = False
    remaining: float | None = None


class Decision(NamedTuple):
    """The outcome: ``again`` after ``wait`` seconds for ``cost`` tokens, or not, for ``reason``.

    ``reason`` is a value of ``AttemptRecord.stopped_by``, "" if there is a retry.
    """

    again: bool
    wait: float = 0.0
    cost: int = 0
    reason: str = ""


def decide(rule: Rule, policy: RetryPolicy, facts: Facts, wait: float = 0.0) -> Decision:
    """Return the decision, the same for the same facts; ``wait`` is the strategy's, in seconds."""
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
