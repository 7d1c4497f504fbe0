"""Why a provider said no, in one readable line without secrets."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import requests

from resilient_requests.call import _clock
from resilient_requests.exceptions import Cancelled
from resilient_requests.stream._sse import SSEDecoder
from resilient_requests.stream._stream import iter_bytes

if TYPE_CHECKING:
    from resilient_requests.chat._redact import Redactor

__all__ = ["http_error"]

_MOST_BYTES = 64 * 1024
_SECONDS = 5.0
_TAG = re.compile(r"<(script|style)\b.*?</\1\s*>|<[^>]*>", re.IGNORECASE | re.DOTALL)
_TITLE = re.compile(r"<title[^>]*>(.*?)</title", re.IGNORECASE | re.DOTALL)


def http_error(response: requests.Response, redactor: Redactor) -> requests.HTTPError:
    """Return the error for a response with a bad status, its body read; the connection is given back."""
    data = _read(response)
    # What users of requests do next is to look at the text of the response: it has been read here, for good.
    response._content = data
    response._content_consumed = True
    status = redactor.line(f"{response.status_code} {response.reason or ''}")
    # The pages of proxies begin with it.
    reason = re.sub(rf"^{re.escape(status)}\b[\s:.-]*", "", redactor.line(_reason(data)))
    return requests.HTTPError(f"{status}: {reason}" if reason else status, response=response)


def _read(response: requests.Response) -> bytes:
    """Return as much of a body as comes in time; whatever happens to it, the status is known."""
    found = b""
    until = _clock.boot() + _SECONDS
    with (
        suppress(requests.RequestException, Cancelled),
        iter_bytes(response, idle_timeout=_SECONDS) as stream,
    ):
        for data in stream:
            found += data
            if len(found) >= _MOST_BYTES or _clock.boot() >= until:
                break
    return found


def _reason(data: bytes) -> str:
    text = data.decode("utf-8", "replace").strip()
    if text.startswith(("data:", "event:")):
        # Some gateways that were asked for a stream refuse in one.
        text = next((event.data for event in SSEDecoder().feed(data + b"\n\n")), text)
    try:
        return _said(json.loads(text)) or text
    except (ValueError, RecursionError):
        pass
    if "<" in text and (title := _TITLE.search(text)):
        return title.group(1)
    return _TAG.sub(" ", text)


def _said(value: Any) -> str:
    """Return the message in a JSON body, in whatever form providers give it."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return next((found for each in value if (found := _said(each))), "")
    if isinstance(value, dict):
        names = (
            "error",
            "message",
            "detail",
            "error_description",
            "msg",
            "errors",
            "title",
            "type",
        )
        return next((found for name in names if (found := _said(value.get(name)))), "")
    return ""
