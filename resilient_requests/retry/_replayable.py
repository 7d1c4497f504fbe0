"""One request as the rules see it: its key, and whether it can be, and may be, sent again."""

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
"""Which POSTs and PATCHes get a key: those whose response is streamed, all, or none."""

_KEYED_METHODS = frozenset({"POST", "PATCH"})
# RFC 9110 9.2.2, and QUERY of draft-ietf-httpbis-safe-method-w-body.
_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "QUERY"})
_IN_MEMORY = (type(None), str, bytes, bytearray, memoryview)


def is_keyed(which: KeyedRequests, *, stream: bool) -> bool:
    """Return whether a request gets a key, as far as its response decides that."""
    return stream if which == "streams" else which


def with_key(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Return a copy with a key of its own where the method needs one and the caller gave none.

    A copy, because the same request sent twice is two operations.
    """
    if request.method not in _KEYED_METHODS or _has_key(request.headers):
        return request
    keyed = copy.copy(request)
    keyed.headers = request.headers.copy()
    # From the system's randomness for each operation: clones of this process (snapshots of
    # virtual machines, AWS Lambda SnapStart) would repeat whatever it counts or remembers.
    keyed.headers[IDEMPOTENCY_KEY] = str(uuid.uuid4())
    return keyed


def is_idempotent(request: requests.PreparedRequest) -> bool:
    """Return whether acting on a request twice does no harm: by its method, or by declaration."""
    return (request.method or "").upper() in _IDEMPOTENT or _has_key(request.headers)


def _has_key(headers: Any) -> bool:
    # A user may have set a plain dict.
    return IDEMPOTENCY_KEY in headers or IDEMPOTENCY_KEY.lower() in headers


def can_be_rewound(request: requests.PreparedRequest, attempt: Attempt) -> bool:
    """Return whether the body can be sent once more from where it began, as far as can be told.

    An iterable without ``__next__`` may all the same be read once, such as a progress bar over a
    generator: its rest would arrive as a whole request. So only what can be rewound counts.
    """
    if isinstance(request.body, _IN_MEMORY) or not attempt.body_touched:
        return True
    return isinstance(getattr(request, "_body_position", None), int)


def rewind(request: requests.PreparedRequest, attempt: Attempt) -> bool:
    """Make the body ready to be sent once more; return whether it says that it stands where it began."""
    body: Any = request.body
    if isinstance(body, _IN_MEMORY) or not attempt.body_touched:
        return True
    try:
        rewind_body(request)
        return bool(body.tell() == request._body_position)  # some seek() do nothing
    except (requests.exceptions.UnrewindableBodyError, OSError, ValueError):
        return False
