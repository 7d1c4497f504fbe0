"""The settings of an adapter: the forms of each parameter, and the environment's defaults."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import urllib3

from resilient_requests import _checks
from resilient_requests.adapter._environment import count_of, seconds_of
from resilient_requests.call import Timeouts
from resilient_requests.retry import RetryPolicy, policy_of
from resilient_requests.transport import KeepAlivePolicy, TCPKeepAlive

if TYPE_CHECKING:
    from resilient_requests.retry import KeyedRequests

__all__ = [
    "DEFAULT_KEEPALIVE",
    "DEFAULT_POLICY",
    "DEFAULT_TCP",
    "DEFAULT_TIMEOUTS",
    "changed",
    "keepalive_from",
    "keyed_from",
    "policy_from",
    "tcp_from",
    "timeouts_from",
]

# The environment counts only if the caller gave no value. The test is identity: these objects are
# the defaults in the signature.
DEFAULT_POLICY = RetryPolicy()
DEFAULT_KEEPALIVE = KeepAlivePolicy()
DEFAULT_TIMEOUTS = Timeouts()
DEFAULT_TCP = TCPKeepAlive()


def policy_from(given: object) -> RetryPolicy:
    """Return the policy for ``max_retries``. Raises TypeError naming it."""
    if given is DEFAULT_POLICY:
        most = count_of("MAX_RETRIES", DEFAULT_POLICY.max_retries)
        return replace(DEFAULT_POLICY, max_retries=most)
    if isinstance(given, RetryPolicy):
        return given
    if isinstance(given, urllib3.Retry):
        return policy_of(given)
    if isinstance(given, bool) or not isinstance(given, int):
        kind = type(given).__name__
        raise TypeError(f"max_retries must be a RetryPolicy, an int or a urllib3 Retry, not {kind}")
    return RetryPolicy(max_retries=given)


def keyed_from(given: object) -> KeyedRequests:
    """Return ``idempotency_keys``. Raises TypeError naming it."""
    if given == "streams":
        return "streams"
    if not isinstance(given, bool):
        raise TypeError(f'idempotency_keys must be "streams", True or False, not {given!r}')
    return given


def keepalive_from(given: object) -> KeepAlivePolicy:
    """Return the policy for ``keepalive``. Raises TypeError or ValueError naming it."""
    if given is DEFAULT_KEEPALIVE:
        expiry = seconds_of("KEEPALIVE", DEFAULT_KEEPALIVE.expiry)
        return replace(DEFAULT_KEEPALIVE, expiry=expiry)
    if isinstance(given, KeepAlivePolicy):
        return given
    if given is None:
        never = "keepalive=KeepAlivePolicy(expiry=0) never reuses a connection"
        raise TypeError(f"keepalive must be a KeepAlivePolicy or seconds, not None: {never}")
    return KeepAlivePolicy(expiry=_checks.number("keepalive", given, least=0))


def timeouts_from(given: Timeouts) -> Timeouts:
    """Return ``timeouts``, with the environment's idle limit. Raises TypeError naming it."""
    _checks.instance("timeouts", given, Timeouts)
    if given is not DEFAULT_TIMEOUTS or given.idle is None:
        return given
    return replace(given, idle=seconds_of("STREAM_IDLE", given.idle))


def tcp_from(given: object) -> TCPKeepAlive | None:
    """Return ``tcp_keepalive``. Raises TypeError naming it."""
    if given is None or isinstance(given, TCPKeepAlive):
        return given
    kind = type(given).__name__
    raise TypeError(
        f"tcp_keepalive must be a TCPKeepAlive(), or None to leave sockets alone, not {kind}"
    )


def changed(adapter: Any) -> str:
    """Return the settings in force that differ from the defaults, as keyword arguments."""
    defaults = {
        "retry_policy": DEFAULT_POLICY,
        "keepalive": DEFAULT_KEEPALIVE,
        "timeouts": DEFAULT_TIMEOUTS,
        "tcp_keepalive": DEFAULT_TCP,
        "idempotency_keys": "streams",
    }
    in_force = {name: getattr(adapter, name) for name in defaults}
    return "".join(
        f" {name}={value!r}" for name, value in in_force.items() if value != defaults[name]
    )
