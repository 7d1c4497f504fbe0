"""Opens the answer to a chat request, anew for each attempt, all of which are one operation."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import requests

from resilient_requests.chat._answer import Answer
from resilient_requests.exceptions import Cancelled
from resilient_requests.retry import IDEMPOTENCY_KEY, RetryCount

if TYPE_CHECKING:
    from resilient_requests.chat._request import ChatRequest
    from resilient_requests.chat._types import ChatCompletion

__all__ = ["Opener"]


class Opener:
    """Sends one chat request as often as its operation has it; belongs to the thread that reads the answers."""

    def __init__(self, request: ChatRequest) -> None:
        self.request = request
        self.operation = RetryCount()
        self._key: dict[str, str | bytes] = {}

    def open(self) -> Answer:
        """Send the request, and return its answer once status and content type are good."""
        try:
            with self.operation:
                response = self.request.send(self._key)
            self._keep_key(response)
            return Answer(self.request, response)
        except (requests.RequestException, Cancelled) as error:
            self.mark(error)
            raise

    def reopen(self, failure: Exception) -> Answer:
        """Open the answer once more after ``failure``, which is raised where the rules forbid it."""
        try:
            return self.operation.replay(failure, self.open, lambda error: error is failure)
        except BaseException as error:
            self.mark(error)
            raise

    def _keep_key(self, response: requests.Response) -> None:
        key = response.request.headers.get(IDEMPOTENCY_KEY)
        self._key = {} if key is None else {IDEMPOTENCY_KEY: key}

    def renew_key(self) -> None:
        """Let the next attempt be an operation of its own to the server, which would else repeat a bad answer."""
        self._key = {}

    def lost(self, answer: Answer, error: BaseException) -> None:
        """Note that an answer came to nothing, and write on its error how far it came."""
        answer.events.close()  # also where the error is none of the stream's own
        self.operation.note(error, answer.attempt)
        self.mark(error, answer.completion(attempts=(), is_over=True))

    def mark(self, error: BaseException, partial: ChatCompletion | None = None) -> None:
        """Write on an error what all attempts did, and the best that came of them."""
        if isinstance(error, (requests.RequestException, Cancelled)):
            error.attempts = attempts = tuple(self.operation.records)  # type: ignore[union-attr]
            partial = partial or getattr(error, "partial", None)
            if partial is not None:
                error.partial = replace(partial, attempts=attempts)  # type: ignore[union-attr]
