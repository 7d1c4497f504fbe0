"""One request as the rules see it: its idempotency key, and whether it can be sent again."""

from __future__ import annotations

import copy
import uuid
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import requests
from requests.utils import rewind_body

if TYPE_CHECKING:
    from resilient_requests.call import Attempt

__all__ = [
    "IDEMPOTENCY_KEY",
    "KeyedRequests",
    "can_be_rewound",
    "is_idempotent",
    "is_keyed",
    "rewind",
    "with_key",
]

IDEMPOTENCY_KEY = "Idempotency-Key"
KeyedRequests: TypeAlias = Literal["streams"] | bool
"""Selects the POSTs and PATCHes that get a key: those with a streamed response, all, or none."""

_KEYED_METHODS = frozenset({"POST", "PATCH"})
# RFC 9110 9.2.2, and QUERY of draft-ietf-httpbis-safe-method-w-body.
_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "QUERY"})
_IN_MEMORY = (type(None), str, bytes, bytearray, memoryview)


def is_keyed(which: KeyedRequests, *, stream: bool) -> bool:
    """Return True if a request with this kind of response gets a key."""
    return stream if which == "streams" else which


def with_key(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Return a copy with a new key if the method needs one and the caller gave none.

    A copy, because one request sent twice by the caller is two operations.
    """
    if request.method not in _KEYED_METHODS or _has_key(request.headers):
        return request
    keyed = copy.copy(request)
    keyed.headers = request.headers.copy()
    # Random for each operation. A counter or a stored prefix would repeat in clones of this process
    # (snapshots of virtual machines, AWS Lambda SnapStart).
    keyed.headers[IDEMPOTENCY_KEY] = str(uuid.uuid4())
    return keyed


def is_idempotent(request: requests.PreparedRequest) -> bool:
    """Return True if a request may be applied twice: by its method, or declared by a key."""
    return (request.method or "").upper() in _IDEMPOTENT or _has_key(request.headers)


def _has_key(headers: Any) -> bool:
    # Two spellings, because a user may have replaced the headers by a plain dict.
    return IDEMPOTENCY_KEY in headers or IDEMPOTENCY_KEY.lower() in headers


def can_be_rewound(request: requests.PreparedRequest, attempt: Attempt) -> bool:
    """Return True if the body can be sent again from its start, as far as can be told.

    An iterable without ``__next__`` may still be used up, such as a progress bar over a generator,
    and its rest would look like a whole request. So a body counts only if requests noted its
    position.
    """
    if isinstance(request.body, _IN_MEMORY) or not attempt.body_touched:
        return True
    # requests sets a bare object() if tell() failed.
    return isinstance(getattr(request, "_body_position", None), int)


def rewind(request: requests.PreparedRequest, attempt: Attempt) -> bool:
    """Rewind the body for another attempt; return True if it then reports its first position."""
    body: Any = request.body
    if isinstance(body, _IN_MEMORY) or not attempt.body_touched:
        return True
    try:
        rewind_body(request)
        return bool(body.tell() == request._body_position)  # seek() may do nothing
    except (requests.exceptions.UnrewindableBodyError, OSError, ValueError):
        return False
