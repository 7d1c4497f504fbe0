"""Retries: which calls are sent again, when, and at which cost.

`RetryingCall` runs the attempts of one call. `RetryCount` counts an operation of several sends.
Both ask `decide`, a pure function.
"""

from resilient_requests.retry._budget import OriginBudgets, RetryBudget
from resilient_requests.retry._call import RetryingCall
from resilient_requests.retry._count import RetryCount
from resilient_requests.retry._failures import is_transient
from resilient_requests.retry._policy import RetryPolicy, retry_after
from resilient_requests.retry._replayable import (
    IDEMPOTENCY_KEY,
    KeyedRequests,
    is_keyed,
    with_key,
)
from resilient_requests.retry._sender import Sender
from resilient_requests.retry._urllib3 import PolicyCarrier, TranslatedPolicy, policy_of

__all__ = [
    "IDEMPOTENCY_KEY",
    "KeyedRequests",
    "OriginBudgets",
    "PolicyCarrier",
    "RetryBudget",
    "RetryCount",
    "RetryPolicy",
    "RetryingCall",
    "Sender",
    "TranslatedPolicy",
    "is_keyed",
    "is_transient",
    "policy_of",
    "retry_after",
    "with_key",
]
