"""Idempotency-Keys: made for a call, put on a copy of its request, and recognised."""

from __future__ import annotations

import copy
import uuid
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    import requests

__all__ = ["IDEMPOTENCY_KEY", "KeyedRequests", "has_key", "is_keyed", "with_key"]

IDEMPOTENCY_KEY = "Idempotency-Key"
KeyedRequests: TypeAlias = Literal["streams"] | bool
"""Which POSTs and PATCHes get a key: those whose response is streamed, all, or none."""

_KEYED_METHODS = frozenset({"POST", "PATCH"})


def is_keyed(which: KeyedRequests, *, stream: bool) -> bool:
    """Return whether a request gets a key, as far as its response decides that."""
    return stream if which == "streams" else which


def with_key(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Return a copy with a key of its own where the method needs one and the caller gave none.

    A copy, because the same request sent twice is two operations.
    """
    if request.method not in _KEYED_METHODS or has_key(request.headers):
        return request
    keyed = copy.copy(request)
    keyed.headers = request.headers.copy()
    # From the system's randomness for each operation: clones of this process (snapshots of
    # virtual machines, AWS Lambda SnapStart) would repeat whatever it counts or remembers.
    keyed.headers[IDEMPOTENCY_KEY] = str(uuid.uuid4())
    return keyed


def has_key(headers: Any) -> bool:
    """Return whether there is a key among headers, which a user may have set as a plain dict."""
    return IDEMPOTENCY_KEY in headers or IDEMPOTENCY_KEY.lower() in headers
