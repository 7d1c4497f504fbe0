"""A chat answer as a whole, replayed where it came to nothing: nobody has seen any of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from resilient_requests.chat._assembly import has_broken_calls, weight
from resilient_requests.chat._opener import Opener
from resilient_requests.chat._request import build
from resilient_requests.exceptions import (
    ChatAPIError,
    StreamBroken,
    StreamIdle,
    StreamProtocolError,
    StreamTruncated,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    import requests

    from resilient_requests.chat._answer import Answer
    from resilient_requests.chat._types import ChatCompletion

__all__ = ["complete_chat"]


class _Completer:
    """Reads answers until one is good; used once."""

    def __init__(self, opener: Opener) -> None:
        self._opener = opener
        self._operation = opener.operation
        self._best: ChatCompletion | None = None
        self._unusable: StreamProtocolError | None = None  # of an answer that came to its end

    def run(self) -> ChatCompletion:
        try:
            completion = self._run()
        except Exception as error:
            if error is not self._unusable:
                self._opener.mark(error, self._best)
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
        answer = self._opener.open()
        try:
            while answer.read() is not None:
                pass
        except BaseException as error:
            self._lost(answer, error)
            raise
        completion = answer.completion(attempts=(), is_over=True)
        if has_broken_calls(completion):
            self._unusable = StreamProtocolError(
                "the arguments of a tool call are no JSON", **answer.reader.facts()
            )
            self._lost(answer, self._unusable)
            raise self._unusable
        return completion

    def _lost(self, answer: Answer, error: BaseException) -> None:
        self._opener.lost(answer, error)
        partial = getattr(error, "partial", None)
        if partial is not None and weight(partial) > weight(self._best):
            self._best = partial
        if error is self._unusable or isinstance(error, ChatAPIError):
            self._opener.renew_key()

    def _is_worth_replaying(self, error: BaseException) -> bool:
        if isinstance(error, ChatAPIError):
            return error.transient
        return error is self._unusable or isinstance(
            error, (StreamBroken, StreamIdle, StreamTruncated)
        )


def complete_chat(
    session: requests.Session,
    url: str,
    *,
    model: str,
    messages: Any,
    dialect: str = "openai",
    idle_timeout: float | None = None,
    event_timeout: float | None = None,
    accept_bare_eof: bool = False,
    headers: Mapping[str, str] | None = None,
    timeout: Any = None,
    **body: Any,
) -> ChatCompletion:
    """Send a chat request, and return its whole answer; it streams on the wire, so that silence is noticed.

    An answer that breaks off, ends without its terminal marker, stalls, reports a transient error, or brings
    a tool call whose arguments are no JSON, is thrown away and asked for anew: through a `ResilientAdapter`, within
    its ``max_retries``, budget and deadlines, which the retries before a response share. On other adapters nothing
    is repeated. Where no attempt is left, arguments that are no JSON are handed over as text, with
    ``truncated`` set.

    Parameters, but for ``heartbeat``, and errors are those of `stream_chat`. An error carries ``attempts``, what all
    attempts did, and ``partial``, the longest answer that any of them brought.
    """
    if "heartbeat" in body:
        raise TypeError("complete_chat() takes no heartbeat: nobody watches it while it waits")
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
        heartbeat=None,
        accept_bare_eof=accept_bare_eof,
    )
    return _Completer(Opener(request)).run()
