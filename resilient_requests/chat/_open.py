"""Begins a chat stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

from resilient_requests.chat._opener import Opener
from resilient_requests.chat._request import build
from resilient_requests.chat._stream import ChatStream

if TYPE_CHECKING:
    from collections.abc import Mapping

    import requests

    from resilient_requests.chat._types import ChatDelta
    from resilient_requests.stream import Heartbeat

__all__ = ["stream_chat"]


@overload
def stream_chat(
    session: requests.Session,
    url: str,
    *,
    model: str,
    messages: Any,
    dialect: str = ...,
    idle_timeout: float | None = ...,
    event_timeout: float | None = ...,
    heartbeat: None = ...,
    accept_bare_eof: bool = ...,
    headers: Mapping[str, str] | None = ...,
    timeout: Any = ...,
    **body: Any,
) -> ChatStream[ChatDelta]: ...
@overload
def stream_chat(
    session: requests.Session,
    url: str,
    *,
    model: str,
    messages: Any,
    dialect: str = ...,
    idle_timeout: float | None = ...,
    event_timeout: float | None = ...,
    heartbeat: float | None,
    accept_bare_eof: bool = ...,
    headers: Mapping[str, str] | None = ...,
    timeout: Any = ...,
    **body: Any,
) -> ChatStream[ChatDelta | Heartbeat]: ...
def stream_chat(
    session: requests.Session,
    url: str,
    *,
    model: str,
    messages: Any,
    dialect: str = "openai",
    idle_timeout: float | None = None,
    event_timeout: float | None = None,
    heartbeat: float | None = None,
    accept_bare_eof: bool = False,
    headers: Mapping[str, str] | None = None,
    timeout: Any = None,
    **body: Any,
) -> ChatStream[Any]:
    """Send a chat request, and return its answer as it arrives, once status and content type are good.

    ``dialect``: "openai" (and all who speak it), "openai-responses", "anthropic", "gemini" or "ollama"; ``model``,
    ``messages`` and further keyword arguments become the body as they are, with ``stream`` set. ``idle_timeout``:
    seconds without a byte until `StreamIdle` (None: the read timeout that the call gives, else ``Timeouts.idle``);
    ``event_timeout``: seconds without a part of the answer, which comments, pings, roles and usage are not (None: no
    limit). ``heartbeat``: yield `HEARTBEAT` after so many silent seconds. ``accept_bare_eof``: take an end without a
    terminal marker for a good one, for servers that send none. ``headers`` and ``timeout`` as in requests.

    A stream that breaks before the first part of the answer is replayed once, unseen, through a
    `ResilientAdapter`. Raises requests.HTTPError with the provider's reason, `ChatAPIError` for an error inside the
    stream, `StreamTruncated` for an end without a terminal marker, the errors of `iter_events` (``partial`` on each
    is the answer so far), and TypeError or ValueError naming the parameter, before anything is sent.
    """
    request = build(
        session,
        url,
        model=model,
        messages=messages,
        dialect=dialect,
        more=body,
        headers=headers,
        timeout=timeout,
        idle_timeout=idle_timeout,
        event_timeout=event_timeout,
        heartbeat=heartbeat,
        accept_bare_eof=accept_bare_eof,
    )
    return ChatStream(Opener(request))
