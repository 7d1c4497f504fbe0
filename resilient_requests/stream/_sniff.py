"""What a body is, by its first bytes: its Content-Type is only a hint; no I/O."""

from __future__ import annotations

import enum
import re

__all__ = ["Form", "form_of"]

_BOM = b"\xef\xbb\xbf"
# HTML, 9.2.6: a line is a comment, or begins with the name of a field.
_FIELD = re.compile(rb"(?:data|event|id|retry|error)?:|(?:data|event|id|retry)\r?\n")
_LONGEST = len(b"event\r\n")


class Form(enum.Enum):
    """What a body can be."""

    EVENTS = "events"
    JSON = "json"
    MARKUP = "markup"
    TEXT = "text"


def form_of(start: bytes) -> Form | None:
    """Return the form of a body that begins so; None where these bytes do not tell yet.

    White space and a byte order mark before the body tell nothing.
    """
    start = start.lstrip().removeprefix(_BOM).lstrip()
    if not start or _BOM.startswith(start):
        return None
    if start[:1] in (b"{", b"["):
        return Form.JSON
    if start[:1] == b"<":
        return Form.MARKUP
    if _FIELD.match(start):
        return Form.EVENTS
    if len(start) < _LONGEST and start.isalpha():
        return None
    return Form.TEXT
