"""The reason of a provider's refusal, as one readable line without secrets."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import requests

from resilient_requests.call import boot
from resilient_requests.exceptions import Cancelled
from resilient_requests.stream import Heartbeat, SSEDecoder, iter_bytes

if TYPE_CHECKING:
    from resilient_requests.chat._redact import Redactor

__all__ = ["http_error"]

_MOST_BYTES = 64 * 1024
_SECONDS = 5.0
# The members that hold a reason, the best first: those of the providers, of FastAPI ("detail"), of
# OAuth ("error_description", RFC 6749 5.2) and of RFC 9457 ("title").
_MEMBERS = ("error", "message", "detail", "error_description", "msg", "errors", "title", "type")
_TAG = re.compile(r"/?[a-z]+|[!?]", re.IGNORECASE)
_UNREAD = ("script", "style")


def http_error(response: requests.Response, redactor: Redactor) -> requests.HTTPError:
    """Return the error for a response with a bad status; the connection is given back.

    The response keeps the part of its body that was read: at most 64 KiB, within 5 seconds.
    """
    response._content = response._content or _read(response)  # a hook may have read it
    response._content_consumed = True
    status = redactor.line(f"{response.status_code} {response.reason or ''}")
    reason = _reason(response._content[:_MOST_BYTES])
    # Proxies begin their pages with the status, which the message has already.
    reason = re.sub(rf"^{re.escape(status)}\b[\s:.-]*", "", redactor.line(reason))
    return requests.HTTPError(f"{status}: {reason}" if reason else status, response=response)


def _read(response: requests.Response) -> bytes:
    """Return as much of a body as comes in time. A failure only shortens it: the status is known.

    Returns nothing for a body that a hook has read in pieces: `iter_bytes` raises ValueError then.
    """
    found = bytearray()
    until = boot() + _SECONDS
    with (
        suppress(requests.RequestException, Cancelled, ValueError),
        iter_bytes(response, heartbeat=_SECONDS / 10) as stream,
    ):
        for data in stream:
            found += b"" if isinstance(data, Heartbeat) else data
            if len(found) >= _MOST_BYTES or boot() >= until:
                break
    return bytes(found[:_MOST_BYTES])


def _reason(data: bytes) -> str:
    text = data.decode("utf-8-sig", "replace").strip()
    if text.startswith(("data:", "event:")):
        # Some gateways send the refusal of a streamed request as an event.
        text = next((event.data for event in SSEDecoder().feed(data + b"\n\n")), text)
    try:
        # A number is never a reason, and int() refuses numbers of thousands of digits.
        return _said(json.loads(text, parse_int=_nothing, parse_float=_nothing)) or text
    except (ValueError, RecursionError):
        return _text_of(text)


def _nothing(_: str) -> None:
    """Return None for a number."""


def _said(value: Any) -> str:
    """Return the message in a JSON body, in any form that providers use."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return next((found for each in value if (found := _said(each))), "")
    if isinstance(value, dict):
        return next((found for name in _MEMBERS if (found := _said(value.get(name)))), "")
    return ""


def _text_of(page: str) -> str:
    """Return the title of a page, else its text without tags, scripts and styles, in one pass."""
    text, *parts = page.split("<")
    found, until = text.split(), ""
    for part in parts:
        match = _TAG.match(part)
        name = match[0].lower() if match else ""
        if until and name != until:
            continue
        until = f"/{name}" if name in _UNREAD else ""
        _, end, text = part.partition(">")
        if not name or not end:
            text = f"<{part}"  # a "<" that begins no tag
        elif name == "title" and text.strip():
            return text
        found += [] if until else text.split()
    return " ".join(found)
