"""Why a provider said no, in one readable line without secrets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import requests

from resilient_requests import _clock
from resilient_requests._stream import iter_bytes
from resilient_requests.exceptions import Cancelled

__all__ = ["Censor", "http_error"]

_LONGEST = 300
_MOST_BYTES = 64 * 1024
_SECONDS = 5.0
_SECRET_NAME = re.compile(r"auth|key|token|secret|cookie|password|credential|session", re.IGNORECASE)
_SECRET = re.compile(r"\b(?:sk|pk|rk|ak|xai|gsk|hf|nvapi|AIza)[-_][\w-]{6,}|\bAIza[\w-]{20,}|\bBearer\s+[^\s\"',;]+")
_TAG = re.compile(r"<(script|style)\b.*?</\1\s*>|<[^>]*>", re.IGNORECASE | re.DOTALL)
_TITLE = re.compile(r"<title[^>]*>(.*?)</title", re.IGNORECASE | re.DOTALL)


class Censor:
    """Takes secrets and the prompt out of what a provider says."""

    def __init__(self, request: requests.PreparedRequest | None, body: Mapping[str, Any]) -> None:
        # The model's name is no secret, and what the commonest refusal is about.
        words = _prompt({name: each for name, each in body.items() if name != "model"})
        self._hidden = sorted({*_secrets(request), *words}, key=len, reverse=True)

    def line(self, text: str) -> str:
        """Return a text as one line of at most 300 characters, with nothing in it that must stay private."""
        for each in self._hidden:
            text = text.replace(each, "***")
        text = _SECRET.sub("***", text)
        text = " ".join("".join(each if each.isprintable() else " " for each in text).split())
        for each in self._hidden:  # white space may have kept one from being found
            text = text.replace(" ".join(each.split()) or each, "***")
        return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _secrets(request: requests.PreparedRequest | None) -> Iterator[str]:
    if request is None:
        return
    for name, value in (request.headers or {}).items():
        if _SECRET_NAME.search(name):
            text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
            yield from (part for part in (text, text.partition(" ")[2]) if len(part) >= 4)
    yield from (value for _, value in parse_qsl(urlsplit(request.url or "").query) if len(value) >= 8)


def _prompt(value: object) -> Iterator[str]:
    """Yield the texts of a body that are long enough to be somebody's words."""
    if isinstance(value, Mapping):
        for each in value.values():
            yield from _prompt(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _prompt(each)
    elif isinstance(value, str) and len(value) >= 12:
        yield value


def http_error(response: requests.Response, body: Mapping[str, Any]) -> requests.HTTPError:
    """Return the error for a response with a bad status, its body read; the connection is given back."""
    data = _read(response)
    # What users of requests do next is to look at the text of the response: it has been read here, for good.
    response._content = data
    response._content_consumed = True
    reason = Censor(response.request, body).line(_reason(data))
    message = f"{response.status_code} {response.reason or ''}".strip()
    return requests.HTTPError(f"{message}: {reason}" if reason else message, response=response)


def _read(response: requests.Response) -> bytes:
    """Return as much of a body as comes in time; whatever happens to it, the status is known."""
    found = b""
    until = _clock.now().boot + _SECONDS
    with suppress(requests.RequestException, Cancelled), iter_bytes(response, idle_timeout=_SECONDS) as stream:
        for data in stream:
            found += data if isinstance(data, bytes) else b""
            if len(found) >= _MOST_BYTES or _clock.now().boot >= until:
                break
    return found


def _reason(data: bytes) -> str:
    text = data.decode("utf-8", "replace").strip()
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
        names = ("error", "message", "detail", "error_description", "msg", "errors", "title", "type")
        return next((found for name in names if (found := _said(value.get(name)))), "")
    return ""
