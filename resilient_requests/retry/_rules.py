"""One table: the failures after which a request is sent again, and their other effects."""

from __future__ import annotations

import enum
from typing import NamedTuple

__all__ = ["Failure", "Rule", "When", "rule_of"]


class Failure(enum.Enum):
    """The kinds of failure that the rules distinguish; the values appear in logs and events."""

    NO_CONNECTION = "no connection"  # DNS hiccup, refused, no route, connect timeout
    UNKNOWN_HOST = "unknown host"
    CERTIFICATE = "certificate or TLS protocol"
    HANDSHAKE_CUT = "handshake cut"  # TLS or CONNECT: reset, end or silence
    PROXY_BUSY = "proxy busy"
    PROXY_REFUSAL = "proxy refusal"
    SEND_FAILED = "send failed"
    DIED = "connection died"  # no byte of a response
    HEAD_CUT = "response head cut"
    UNREADABLE = "unreadable answer"  # an answer came, and it is not HTTP
    RESPONSE_TIMEOUT = "response timeout"
    BODY_CUT = "body cut"
    BODY_STALLED = "body stalled"
    POOL_CLOSED = "pool closed"
    STATUS = "status"
    OTHER = "not a failure of the transport"


class When(enum.Enum):
    """The requests that are sent again after a failure."""

    NEVER = "never"
    ALWAYS = "always"
    IDEMPOTENT = "idempotent"
    LISTED = "listed"  # idempotent ones, and all after a status that says "not handled"
    CONFIGURED = "configured"  # idempotent ones, once, with retry_response_timeout


class Rule(NamedTuple):
    """The effects of a failure.

    ``cost`` of a retry, in tokens of the budget. ``retires``: the connections of the origin are
    retired. ``at_once``: the first such retry of an operation has no wait and no cost. ``teaches``:
    the adaptive window is narrowed.
    """

    failure: Failure
    when: When
    cost: int = 0
    retires: bool = False
    at_once: bool = False
    teaches: bool = False


# The numbers are the rows of the table in the documentation ("What is retried").
_RULES = {
    rule.failure: rule
    for rule in (
        Rule(Failure.NO_CONNECTION, When.ALWAYS, 1),  # 1
        Rule(Failure.UNKNOWN_HOST, When.NEVER),  # 2
        Rule(Failure.CERTIFICATE, When.NEVER),  # 2
        Rule(Failure.HANDSHAKE_CUT, When.ALWAYS, 1, retires=True),  # 3
        Rule(Failure.PROXY_BUSY, When.ALWAYS, 1),  # 3b
        Rule(Failure.PROXY_REFUSAL, When.NEVER),  # 3b
        # The kernel never had the tail of the request, so the server cannot have applied it.
        Rule(Failure.SEND_FAILED, When.ALWAYS, 1, retires=True),  # 7
        # The server may have applied it (RFC 9110 9.2.2).
        Rule(Failure.DIED, When.IDEMPOTENT, 1, retires=True),  # 9, 10
        Rule(Failure.HEAD_CUT, When.IDEMPOTENT, 1, retires=True),  # 11
        Rule(Failure.UNREADABLE, When.NEVER),  # 11b
        # The server may be at work: each repetition would have it do the work once more.
        Rule(Failure.RESPONSE_TIMEOUT, When.CONFIGURED, 2, retires=True),  # 12
        Rule(Failure.BODY_CUT, When.IDEMPOTENT, 2, retires=True),  # 14
        Rule(Failure.BODY_STALLED, When.CONFIGURED, 2, retires=True),  # 15
        Rule(Failure.STATUS, When.LISTED, 1),  # 17
        Rule(Failure.POOL_CLOSED, When.ALWAYS, 0, at_once=True),  # 18
        Rule(Failure.OTHER, When.NEVER),  # 19
    )
}
# For reused connections that were dead because they were idle.
_STALE_RULES = {
    rule.failure: rule
    for rule in (
        Rule(Failure.SEND_FAILED, When.ALWAYS, 1, retires=True, at_once=True, teaches=True),  # 5, 6
        # NATs and servers that drop idle connections are the usual cause, and they apply nothing
        # (measured): browsers repeat all methods here.
        Rule(Failure.DIED, When.ALWAYS, 1, retires=True, at_once=True, teaches=True),  # 8
    )
}


def rule_of(failure: Failure, *, stale: bool) -> Rule:
    """Return the rule of a failure; ``stale``: the connection was dead because it was idle."""
    return _STALE_RULES.get(failure, _RULES[failure]) if stale else _RULES[failure]
