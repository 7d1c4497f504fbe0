"""One table: which failure, of which request, is sent again, and what else follows from it."""

from __future__ import annotations

import enum
from typing import NamedTuple

__all__ = ["Failure", "Rule", "When", "rule_of"]


class Failure(enum.Enum):
    """The kinds of failure that the retry rules tell apart; values are for logs and events."""

    NO_CONNECTION = "no connection"  # DNS hiccup, refused, no route, connect timeout
    UNKNOWN_HOST = "unknown host"
    CERTIFICATE = "certificate or TLS protocol"
    HANDSHAKE_CUT = "handshake cut"  # TLS or CONNECT: reset, end or silence
    PROXY_BUSY = "proxy busy"
    PROXY_REFUSAL = "proxy refusal"
    SEND_FAILED = "send failed"
    DIED = "connection died"  # no byte of a response
    HEAD_CUT = "response head cut"
    UNREADABLE = "unreadable answer"  # it came, and is not HTTP
    RESPONSE_TIMEOUT = "response timeout"
    BODY_CUT = "body cut"
    BODY_STALLED = "body stalled"
    POOL_CLOSED = "pool closed"
    STATUS = "status"
    OTHER = "not a failure of the transport"


class When(enum.Enum):
    """The requests that a failure has sent again."""

    NEVER = "never"
    ALWAYS = "always"
    IDEMPOTENT = "idempotent"
    LISTED = "listed"  # idempotent, or the status is one that is repeated for all
    CONFIGURED = "configured"  # retry_response_timeout, once, and idempotent


class Rule(NamedTuple):
    """What follows from a failure.

    ``cost``: of a retry, in tokens of the budget. ``retires``: the origin's connections. ``at_once``:
    the first such retry of an operation neither waits nor costs. ``teaches``: the adaptive window.
    """

    failure: Failure
    when: When
    cost: int = 0
    retires: bool = False
    at_once: bool = False
    teaches: bool = False


# The numbers are the rows of the rules' table in the documentation ("What is retried").
_RULES = {
    rule.failure: rule
    for rule in (
        Rule(Failure.NO_CONNECTION, When.ALWAYS, 1),  # 1
        Rule(Failure.UNKNOWN_HOST, When.NEVER),  # 2
        Rule(Failure.CERTIFICATE, When.NEVER),  # 2
        Rule(Failure.HANDSHAKE_CUT, When.ALWAYS, 1, retires=True),  # 3
        Rule(Failure.PROXY_BUSY, When.ALWAYS, 1),  # 3b
        Rule(Failure.PROXY_REFUSAL, When.NEVER),  # 3b
        Rule(Failure.SEND_FAILED, When.ALWAYS, 1, retires=True),  # 7
        Rule(Failure.DIED, When.IDEMPOTENT, 1, retires=True),  # 9, 10
        Rule(Failure.HEAD_CUT, When.IDEMPOTENT, 1, retires=True),  # 11
        Rule(Failure.UNREADABLE, When.NEVER),  # 11b
        Rule(Failure.RESPONSE_TIMEOUT, When.CONFIGURED, 2, retires=True),  # 12
        Rule(Failure.BODY_CUT, When.IDEMPOTENT, 2, retires=True),  # 14
        Rule(Failure.BODY_STALLED, When.CONFIGURED, 2, retires=True),  # 15
        Rule(Failure.STATUS, When.LISTED, 1),  # 17
        Rule(Failure.POOL_CLOSED, When.ALWAYS, 0, at_once=True),  # 18
        Rule(Failure.OTHER, When.NEVER),  # 19
    )
}
# Of a reused connection that died in time to be blamed on its idleness.
_STALE_RULES = {
    rule.failure: rule
    for rule in (
        Rule(Failure.SEND_FAILED, When.ALWAYS, 1, retires=True, at_once=True, teaches=True),  # 5, 6
        Rule(Failure.DIED, When.ALWAYS, 1, retires=True, at_once=True, teaches=True),  # 8
    )
}


def rule_of(failure: Failure, *, stale: bool) -> Rule:
    """Return the rule of a failure; ``stale``: its connection was reused, and its idleness is to blame."""
    return _STALE_RULES.get(failure, _RULES[failure]) if stale else _RULES[failure]
