"""Opens the answer to a chat request, again for each attempt of the one operation."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import requests

from resilient_requests.call import boot
from resilient_requests.chat._answer import ChatResponse
from resilient_requests.exceptions import Cancelled, ChatAPIError, StreamBroken, StreamIdle
from resilient_requests.retry import IDEMPOTENCY_KEY, RetryCount

if TYPE_CHECKING:
    from resilient_requests.chat._request import ChatRequest
    from resilient_requests.chat._types import ChatCompletion

__all__ = ["ChatCall"]


class ChatCall:
    """Sends one chat request, once for each attempt of its operation.

    Belongs to the thread that reads the answers.
    """

    def __init__(self, request: ChatRequest) -> None:
        self.request = request
        self.operation = RetryCount(request.first_token_timeout)
        self._key: dict[str, str | bytes] = {}

    def open(self) -> ChatResponse:
        """Send the request, and return its answer once status and content type are good."""
        began = boot()
        try:
            with self.operation:
                response = self.request.send(self._key)
            self._keep_key(response)
            # One send may hold several attempts. Only the last of them waited for this response.
            records = self.operation.records
            waited = records[-1].elapsed if records else boot() - began
            return ChatResponse(self.request, response, waited=waited)
        except (requests.RequestException, Cancelled) as error:
            self.mark(error)
            raise

    def may_repeat(self, failure: BaseException) -> bool:
        """Return True if another attempt may mend the failure, provided that nothing was shown."""
        if isinstance(failure, requests.ReadTimeout):
            return self.operation.bounds_head  # the adapter's own rule has decided about the others
        if isinstance(failure, ChatAPIError):
            return failure.transient
        if isinstance(failure, StreamIdle) and failure.clock == "events":
            # Bytes did arrive. Only a caller's own limit for the first part asks for a repetition.
            return failure.idle_timeout == self.request.first_token_timeout
        return isinstance(failure, (StreamBroken, StreamIdle))

    def reopen(self, failure: requests.RequestException) -> ChatResponse:
        """Open the answer once more after a failure.

        Raises the failure where another attempt would not mend it, and where no attempt is left.
        """
        if not self.may_repeat(failure):
            raise failure
        if isinstance(failure, ChatAPIError):
            self.renew_key()
        try:
            return self.operation.replay(failure, self.open, lambda error: error is failure)
        except BaseException as error:
            self.mark(error)
            raise

    def _keep_key(self, response: requests.Response) -> None:
        key = response.request.headers.get(IDEMPOTENCY_KEY)
        self._key = {} if key is None else {IDEMPOTENCY_KEY: key}

    def renew_key(self) -> None:
        """Give the next attempt a new key: under the old one the server would repeat its answer."""
        self._key = {}

    def lost(self, answer: ChatResponse, error: BaseException) -> None:
        """Note that an answer failed, and write on its error how far the answer came."""
        answer.events.close()  # the error may have another source than the stream
        self.operation.note(error, answer.attempt)
        self.mark(error, answer.completion(attempts=(), is_over=True))

    def mark(self, error: BaseException, partial: ChatCompletion | None = None) -> None:
        """Write on an error the records of all attempts, and the best partial answer."""
        if isinstance(error, (requests.RequestException, Cancelled)):
            error.attempts = attempts = tuple(self.operation.records)  # type: ignore[union-attr]
            partial = partial or getattr(error, "partial", None)
            if partial is not None:
                error.partial = replace(partial, attempts=attempts)  # type: ignore[union-attr]
