"""A chat answer as a whole, replayed where it came to nothing: nobody has seen any of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from resilient_requests.chat._completion import has_broken_calls, weight
from resilient_requests.exceptions import (
    ChatAPIError,
    StreamBroken,
    StreamIdle,
    StreamProtocolError,
    StreamTruncated,
)

if TYPE_CHECKING:
    from resilient_requests.chat._answer import ChatResponse
    from resilient_requests.chat._call import ChatCall
    from resilient_requests.chat._types import ChatCompletion

__all__ = ["Completer"]


class Completer:
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
        if has_broken_calls(completion):
            self._unusable = StreamProtocolError(
                "the arguments of a tool call are no JSON", **answer.reader.facts()
            )
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
        if isinstance(error, ChatAPIError):
            return error.transient
        return error is self._unusable or isinstance(
            error, (StreamBroken, StreamIdle, StreamTruncated)
        )
