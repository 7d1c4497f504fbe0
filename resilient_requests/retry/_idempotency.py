"""Idempotency-Keys: made for a call, put on a copy of its request, and recognised."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING, Any

from requests.structures import CaseInsensitiveDict

if TYPE_CHECKING:
    import requests

__all__ = ["IDEMPOTENCY_KEY", "Keys", "has_key", "with_key"]

IDEMPOTENCY_KEY = "Idempotency-Key"
_LOWER_KEY = IDEMPOTENCY_KEY.lower()


class Keys:
    """Makes Idempotency-Keys for one adapter in one process: random once, then counted; from any thread.

    Random bytes for each would be a system call for each, 2 % of a short POST.
    """

    def __init__(self) -> None:
        digits = os.urandom(10).hex()
        self._prefix = (
            f"{digits[:8]}-{digits[8:12]}-8{digits[12:15]}-8{digits[15:18]}-"  # RFC 9562, version 8
        )
        self._count = itertools.count(1)

    def new(self) -> str:
        """Return the next."""
        return f"{self._prefix}{next(self._count):012x}"


def with_key(request: requests.PreparedRequest, keys: Keys) -> requests.PreparedRequest:
    """Return a POST or PATCH with an Idempotency-Key: a copy, since the same request sent twice is two operations."""
    if request.method not in ("POST", "PATCH") or has_key(request.headers):
        return request
    keyed = type(request).__new__(type(request))
    keyed.__dict__.update(request.__dict__)  # as copy.copy does, in a quarter of its time
    keyed.headers = _copied(request.headers)
    keyed.headers[IDEMPOTENCY_KEY] = keys.new()
    return keyed


def has_key(headers: Any) -> bool:
    """Return whether there is a key among headers."""
    # A look into the dict of requests' class costs a third of asking that; a user may have set a plain one.
    names = getattr(headers, "_store", headers)
    return _LOWER_KEY in names or IDEMPOTENCY_KEY in names


def _copied(headers: Any) -> Any:
    if type(headers) is not CaseInsensitiveDict:
        return headers.copy()
    copied = CaseInsensitiveDict.__new__(CaseInsensitiveDict)
    copied._store = (
        headers._store.copy()
    )  # its own copy() takes every item apart: 3 % of a short POST
    return copied
