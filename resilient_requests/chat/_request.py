"""A chat request: checks it, sends it, and makes a refusal readable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import requests

from resilient_requests import _checks
from resilient_requests.chat._redact import Redactor
from resilient_requests.chat._refusal import http_error
from resilient_requests.chat.dialects import dialect_of
from resilient_requests.stream import EVENT_STREAM

if TYPE_CHECKING:
    from resilient_requests.chat.dialects import Dialect

__all__ = ["ChatRequest", "build"]


@dataclass(frozen=True, kw_only=True)
class ChatRequest:
    """The request, the same on every attempt; ``repr`` shows none of its content."""

    session: requests.Session
    url: str
    dialect: Dialect
    body: Mapping[str, Any]
    headers: Mapping[str, str]
    timeout: Any
    idle_timeout: float | None
    event_timeout: float | None
    first_token_timeout: float | None
    heartbeat: float | None
    max_event_bytes: int
    accept_bare_eof: bool

    def __repr__(self) -> str:
        return f"<ChatRequest dialect={self.dialect.name}>"

    @property
    def choices(self) -> int:
        """How many choices the body asks for."""
        return self.dialect.choices(self.body)

    def send(self, more: Mapping[str, str | bytes]) -> requests.Response:
        """Send it once, and return a response with a good status.

        Raises HTTPError, and the errors of requests.
        """
        response = self.session.request(
            "POST",
            self.url,
            json=self.body,
            headers={**self.headers, **more},
            timeout=self.timeout,
            stream=True,
        )
        if response.status_code >= 400:
            raise http_error(response, self.redactor(response))
        return response

    def redactor(self, response: requests.Response) -> Redactor:
        """Return the redactor that hides this request's secrets and prompt in its response."""
        sent = [each.request for each in (*response.history, response)]
        settings = self.session.merge_environment_settings(self.url, {}, None, None, None)
        return Redactor(sent, filter(None, settings["proxies"].values()), self.body)


def build(
    session: requests.Session,
    url: str,
    *,
    model: str,
    messages: Any,
    dialect: str,
    more: dict[str, Any],
    headers: Mapping[str, str] | None,
    **options: Any,
) -> ChatRequest:
    """Return the request for a call's arguments.

    Raises TypeError or ValueError naming the parameter.
    """
    way = dialect_of(dialect)
    _checks.instance("session", session, requests.Session)
    _checks.instance("url", url, str)
    _check_body(way, model, messages, more)
    for name in ("idle_timeout", "event_timeout", "first_token_timeout", "heartbeat"):
        _checks.duration(name, options[name])
    _checks.count("max_event_bytes", options["max_event_bytes"], least=1)
    _checks.flag("accept_bare_eof", options["accept_bare_eof"])
    _checks.instance("headers", headers, Mapping, optional=True)
    return ChatRequest(
        session=session,
        url=way.url(url, model),
        dialect=way,
        body=way.body(model, messages, {n: each for n, each in more.items() if n != "stream"}),
        headers=_headers(way, headers or {}),
        **options,
    )


def _check_body(way: Dialect, model: object, messages: object, more: Mapping[str, Any]) -> None:
    _checks.instance("model", model, str)
    if not model:
        raise ValueError("model must not be empty")
    kinds = (list, tuple, str) if way.takes_text else (list, tuple)
    if messages is not None and not isinstance(messages, kinds):
        raise TypeError(f"messages must be a list, not {type(messages).__name__}")
    if not messages:
        raise ValueError("messages must not be empty")
    if more.get("stream", True) is not True:
        raise ValueError("stream must not be given: a chat call always streams on the wire")


def _headers(way: Dialect, given: Mapping[str, str]) -> dict[str, str]:
    """Return the caller's headers, and those headers of the dialect that the caller did not set."""
    accept = "application/x-ndjson" if way.is_ndjson else EVENT_STREAM
    known = {name.lower() for name in given}
    added = {"Accept": accept, **way.headers}
    return {**{n: each for n, each in added.items() if n.lower() not in known}, **given}
