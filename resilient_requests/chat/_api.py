"""The two chat calls: streamed and buffered."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, overload

from resilient_requests.chat._call import ChatCall
from resilient_requests.chat._completion import has_broken_calls, weight
from resilient_requests.chat._request import build
from resilient_requests.chat._stream import ChatStream
from resilient_requests.exceptions import (
    ChatAPIError,
    StreamIdle,
    StreamProtocolError,
    StreamTruncated,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    import requests

    from resilient_requests.chat._answer import ChatResponse
    from resilient_requests.chat._types import ChatCompletion, ChatDelta
    from resilient_requests.stream import Heartbeat

__all__ = ["complete_chat", "stream_chat"]

_MAX_EVENT_BYTES = 64 * 1024 * 1024  # an image or a piece of audio is one event, in base64


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
    first_token_timeout: float | None = ...,
    heartbeat: None = ...,
    max_event_bytes: int = ...,
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
    first_token_timeout: float | None = ...,
    heartbeat: float | None,
    max_event_bytes: int = ...,
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
    first_token_timeout: float | None = None,
    heartbeat: float | None = None,
    max_event_bytes: int = _MAX_EVENT_BYTES,
    accept_bare_eof: bool = False,
    headers: Mapping[str, str] | None = None,
    timeout: Any = None,
    **body: Any,
) -> ChatStream[Any]:
    """Send a chat request, and return its answer as it arrives, once the status is good.

    ``dialect``: "openai" (also for compatible servers), "openai-responses", "anthropic", "cohere",
    "gemini" or "ollama". ``model``, ``messages`` and further keyword arguments become the body as
    they are, with ``stream`` set. ``idle_timeout``: seconds without a byte until `StreamIdle`
    (None: the read timeout that the call gives, else ``Timeouts.idle``). ``event_timeout``: seconds
    without a part of the answer; comments, pings, roles and usage are none (None: no limit).
    ``first_token_timeout``: seconds until the first part of the answer (None: no limit of its own).
    ``heartbeat``: yield `HEARTBEAT` after so many silent seconds. ``max_event_bytes``: a larger
    event is a `StreamProtocolError`. ``accept_bare_eof``: take an end without a terminal marker for
    a good one, for servers that send none. ``headers`` and ``timeout`` as in requests.

    The caller sees nothing before the first part of the answer. If the stream breaks, stalls
    (``first_token_timeout``, ``idle_timeout``) or reports a transient error before that part, a
    `ResilientAdapter` replays it once, unseen.

    Raises requests.HTTPError with the provider's reason; `ChatAPIError` for an error inside the
    stream, or for a finish reason that means that there is no answer; `StreamTruncated` for an end
    without a terminal marker; and the errors of `iter_events`. The answer so far is ``partial`` on
    each. Raises TypeError or ValueError naming the parameter before anything is sent.
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
        first_token_timeout=first_token_timeout,
        heartbeat=heartbeat,
        max_event_bytes=max_event_bytes,
        accept_bare_eof=accept_bare_eof,
    )
    return ChatStream(ChatCall(request))


class _Completer:
    """Reads answers until one is good; used once."""

    def __init__(self, call: ChatCall) -> None:
        self._call = call
        self._operation = call.operation
        self._best: ChatCompletion | None = None
        self._unusable: StreamProtocolError | None = None  # of an answer that came to its end

    def run(self) -> ChatCompletion:
        try:
            completion = self._run()
        except Exception as error:
            if error is not self._unusable:
                self._call.mark(error, self._best)
                raise
            completion = error.partial  # handed over as it is: the caller may know better
        return replace(completion, attempts=tuple(self._operation.records))

    def _run(self) -> ChatCompletion:
        try:
            return self._once()
        except Exception as error:  # noqa: BLE001  # replay() raises it again
            first = error
        return self._operation.replay(first, self._once, self._is_worth_replaying)

    def _once(self) -> ChatCompletion:
        answer = self._call.open()
        try:
            while answer.read() is not None:
                pass
        except BaseException as error:
            self._lost(answer, error)
            raise
        completion = answer.completion(attempts=(), is_over=True)
        reason = answer.contradiction
        if has_broken_calls(completion):
            reason = "a tool call has no name, or arguments that are not JSON"
        if reason is not None:
            self._unusable = StreamProtocolError(reason, **answer.reader.facts())
            self._lost(answer, self._unusable)
            raise self._unusable
        return completion

    def _lost(self, answer: ChatResponse, error: BaseException) -> None:
        self._call.lost(answer, error)
        partial = getattr(error, "partial", None)
        if partial is not None and weight(partial) > weight(self._best):
            self._best = partial
        if error is self._unusable or isinstance(error, ChatAPIError):
            self._call.renew_key()

    def _is_worth_replaying(self, error: BaseException) -> bool:
        is_bad = error is self._unusable or isinstance(error, (StreamIdle, StreamTruncated))
        return is_bad or self._call.may_repeat(error)


def complete_chat(
    session: requests.Session,
    url: str,
    *,
    model: str,
    messages: Any,
    dialect: str = "openai",
    idle_timeout: float | None = None,
    event_timeout: float | None = None,
    first_token_timeout: float | None = None,
    max_event_bytes: int = _MAX_EVENT_BYTES,
    accept_bare_eof: bool = False,
    headers: Mapping[str, str] | None = None,
    timeout: Any = None,
    **body: Any,
) -> ChatCompletion:
    """Send a chat request, and return its whole answer.

    It streams on the wire, so that silence is noticed. An answer is thrown away and requested again
    if it breaks off, ends without its terminal marker, stalls, reports a transient error,
    contradicts itself, or has a tool call with arguments that are not JSON. Only a
    `ResilientAdapter` repeats: within its ``max_retries``, budget and deadlines, which are shared
    with the retries before a response. When no attempt is left, an answer that came to its end but
    has such a call or contradiction is returned with ``truncated`` set.

    The parameters are those of `stream_chat` without ``heartbeat``, and so are the errors. An error
    carries ``attempts``, the records of all attempts, and ``partial``, the longest answer of any.
    """
    if "heartbeat" in body:
        raise TypeError("complete_chat() takes no heartbeat: it yields nothing while it waits")
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
        first_token_timeout=first_token_timeout,
        heartbeat=None,
        max_event_bytes=max_event_bytes,
        accept_bare_eof=accept_bare_eof,
    )
    return _Completer(ChatCall(request)).run()
