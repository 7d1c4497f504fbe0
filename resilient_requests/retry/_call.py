"""One call: its attempts, and the consequences of each failure."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import requests

from resilient_requests.call import (
    Attempt,
    CallTrace,
    CancelToken,
    Limits,
    Origin,
    current_attempt,
    describe,
    errno_of,
)
from resilient_requests.exceptions import Cancelled, DeadlineExceeded, StreamIdle
from resilient_requests.retry._count import RetryCount
from resilient_requests.retry._decision import Decision, Facts, decide
from resilient_requests.retry._endings import as_requests_would, exhausted, explain, let_go
from resilient_requests.retry._failures import ended_by, failure_of, is_stale, learn
from resilient_requests.retry._loop import repeat
from resilient_requests.retry._policy import pause, retry_after
from resilient_requests.retry._replayable import can_be_rewound, is_idempotent, rewind
from resilient_requests.retry._rules import Failure, Rule, When, rule_of
from resilient_requests.retry._urllib3 import TranslatedPolicy, TranslatedRetries

if TYPE_CHECKING:
    import tenacity

    from resilient_requests.retry._sender import Sender

__all__ = ["RetryingCall"]

_STATUS = rule_of(Failure.STATUS, stale=False)
_DONE = Decision(again=False)
# Each requests.Response has it. A subclass, or a mock, may return something else, which is its own.
_CONSUMED = "_content_consumed"


class RetryingCall:
    """Runs one call of ``ResilientAdapter.send``; used once, by the thread that sends."""

    # The last attempt, the rule for its failure (None on success), and the decision on a retry.
    _attempt: Attempt | None = None
    _rule: Rule | None = None
    _decision = _DONE
    _translated: TranslatedRetries | None = None

    def __init__(
        self,
        sender: Sender,
        request: requests.PreparedRequest,
        token: CancelToken,
        *,
        origin: Origin,
        limits: Limits,
        stream: bool,
        kwargs: dict[str, Any],
    ) -> None:
        self._sender = sender
        self._policy = policy = sender.policy
        self._trace = CallTrace(sender.observers, origin, request.method or "")
        self._request = request
        self._token = token
        self._origin = origin
        self._stream = stream
        self._count = RetryCount.join(sender, token, self._trace, origin)
        self._limits = self._count.limits(limits)
        self._kwargs = kwargs
        if self._limits is not limits:  # urllib3 names the limit in its errors
            self._kwargs = {**kwargs, "timeout": (limits.write, self._limits.response)}
        if isinstance(policy, TranslatedPolicy):
            self._translated = TranslatedRetries(policy, request)

    def run(self) -> requests.Response:
        """Send and retry by the rules; return the response or raise the last attempt's error."""
        try:
            response = self._run()
        except BaseException as error:
            if isinstance(error, Exception):
                self._explain(error)
            if self._attempt is not None:
                self._attempt.forget_foreign()
            self._token.leave()
            raise
        if not hasattr(response, _CONSUMED):
            self._token.leave()  # nothing tells when it has ended
            return response
        if self._attempt is not None and (self._stream or not response._content_consumed):
            self._attempt.hand_out()
        self._token.sent()
        # A subclass's build_response() may return another class.
        if hasattr(response, "attempts"):
            response.attempts = tuple(self._count.records)
        return response

    def _run(self) -> requests.Response:
        first: list[Any] = []
        try:
            first.append(self._once())
        except Exception as error:
            if not self._decision.again:
                self._deny()
                raise
            first.append(error)
        response: requests.Response
        if self._decision.again:
            # Not around the first attempt: tenacity would cost 5 to 8.5 % of a POST (measured).
            response = repeat(
                lambda: _outcome(first),
                self._once,
                is_due=self._is_due,
                wait=lambda: self._decision.wait,
                sleep=lambda seconds: self._sender.sleep(self._token, seconds),
            )
        else:
            response = first.pop()
            if self._decision.reason:
                self._deny()
        if self._translated is not None:
            self._translated.tell(response)
            if self._translated.raises_on_status:
                self._raise_for_exhausted(response)
        return response

    # -- one attempt ------------------------------------------------------------------------------

    def _once(self) -> requests.Response:
        """Make one attempt, record it, and take a first decision on a retry."""
        count, token = self._count, self._token
        attempt = Attempt(
            token,
            len(count.records) + 1,
            self._limits,
            must_dial=count.retries >= 0,  # it repeats an earlier attempt
            trace=self._trace,
            request=self._request,
        )
        self._attempt, self._rule, self._decision = attempt, None, _DONE
        response = None
        try:
            self._trace.started(attempt)
            token.begin(attempt)
            with current_attempt(attempt):
                response = self._sender.send(self._request, stream=self._stream, **self._kwargs)
                if not hasattr(response, _CONSUMED):
                    return response
                self._read(response)
            token.check()
        except BaseException as error:
            if response is None:
                attempt.left_send(error)
            else:
                response.close()  # the call ended after the head, and nothing else refers to it
            raised = self._failed(attempt, error)
            if raised is error:
                del raised  # this frame is in its traceback: a circle would keep the connection
                raise
            if raised is not attempt.foreign:
                raise raised from error
        else:
            self._succeeded(attempt, response)
            return response
        raise raised  # outside the handler, so that no context is added to the caller's exception

    def _read(self, response: requests.Response) -> None:
        """Read the whole body inside the attempt, so that the rules cover it.

        requests reads it after the adapter has returned, where no retry is possible. Responses that
        the caller wants unread stay unread.
        """
        # A Retry that decides about a response may read it.
        is_asked = self._translated is not None and self._translated.wants(response)
        # Digest and NTLM hooks answer a 401 or 407 on the same connection.
        is_challenge = response.status_code in (401, 407) and self._request.hooks.get("response")
        if self._stream or is_asked or is_challenge:
            return
        try:
            response.content  # noqa: B018  # the property reads
        except (
            requests.exceptions.ContentDecodingError,
            requests.exceptions.ChunkedEncodingError,
        ):
            if not response.is_redirect:
                raise
            # requests follows a redirect even if its body is cut, or is not in its
            # Content-Encoding.
            response._content, response._content_consumed = b"", True

    def _succeeded(self, attempt: Attempt, response: requests.Response) -> None:
        attempt.answered(response.status_code)
        self._count.add(attempt.record())
        if attempt.lease is not None and attempt.idle_for is not None:
            attempt.lease.was_good(attempt.idle_for)
        if self._translated is None:
            is_wanted = response.status_code in self._policy.statuses
        else:
            is_wanted = self._translated.wants(response)
        if is_wanted:
            self._rule = _STATUS
            self._decision = self._first_look(None, response)
        else:
            self._sender.deposit(self._origin, self._token)
        self._trace.succeeded(attempt, response.status_code)

    def _failed(self, attempt: Attempt, error: BaseException) -> BaseException:
        """Record a failed attempt and its lessons; return the error to raise."""
        self._token.release()
        attempt.left_with(error)
        ended = None if attempt.foreign is not None else self._ended(error)
        raised = attempt.foreign or ended or error
        number = attempt.errno_of(raised)
        self._count.add(attempt.record(describe(raised, number)))
        if ended is None:
            self._rule = rule_of(failure_of(error, attempt), stale=is_stale(attempt))
        learn(attempt, self._rule, ended)
        self._trace.failed(attempt, raised, number)
        if ended is not None or self._rule is None or not isinstance(raised, Exception):
            self._decision = Decision(again=False, reason=ended_by(ended))
        else:
            self._decision = self._first_look(error, None)
        if ended is None and isinstance(error, StreamIdle):
            return as_requests_would(error, attempt)
        return raised

    def _ended(self, error: BaseException) -> BaseException | None:
        """Return the error of the call's end; None if the call has not ended.

        The state of the call decides. The error is only that of a socket that was shut down.
        """
        if not isinstance(error, Exception):
            return None
        try:
            self._token.check()
        except (Cancelled, requests.RequestException) as ended:
            # A call's own end, raised from below unwrapped, is kept: the same object leaves.
            is_same = type(error) is type(ended) and isinstance(
                ended, (Cancelled, DeadlineExceeded)
            )
            return error if is_same else ended
        return None

    # -- decisions ------------------------------------------------------------------------------

    def _first_look(
        self, error: BaseException | None, response: requests.Response | None
    ) -> Decision:
        """Return a first decision, before the wait strategy is asked."""
        assert self._rule is not None
        if self._translated is not None and not self._rule.at_once:
            decision = self._translated.decide(error, response, self._facts())
            return decision._replace(cost=self._rule.cost)
        return decide(self._rule, self._policy, self._facts())

    def _facts(self) -> Facts:
        attempt, count = self._attempt, self._count
        assert attempt is not None
        return Facts(
            retries=count.retries,
            idempotent=is_idempotent(self._request),
            replayable=can_be_rewound(self._request, attempt),
            status=attempt.status,
            has_retried_free=count.free_retries > 0,
            has_retried_timeout=count.timeout_retries > 0,
            remaining=self._token.remaining(),
        )

    def _is_due(self, state: tenacity.RetryCallState) -> bool:
        """Complete the decision and act on it; tenacity calls this after each attempt."""
        outcome = state.outcome
        assert outcome is not None
        if self._decision.again and (self._translated is None or self._is_at_once):
            wait = self._wait(state)
            assert self._rule is not None
            self._decision = decide(self._rule, self._policy, self._facts(), wait)
        if self._decision.again:
            self._decision = self._paid(self._decision)
        if not self._decision.again:
            self._deny()
            return False
        self._schedule()
        if outcome.failed:
            let_go(outcome.exception())
        else:
            outcome.result().close()
        return True

    @property
    def _is_at_once(self) -> bool:
        return self._rule is not None and self._rule.at_once

    def _wait(self, state: tenacity.RetryCallState) -> float:
        """Return the seconds to wait, from the strategy or from the server's Retry-After."""
        if self._is_at_once and not self._count.free_retries:
            return 0.0
        seconds = pause(self._policy, state)
        if state.outcome is not None and not state.outcome.failed:
            header = state.outcome.result().headers.get("Retry-After")
            seconds = max(seconds, retry_after(header))
        return seconds

    def _paid(self, decision: Decision) -> Decision:
        """Rewind the body and pay for the retry; return a denial if either fails."""
        assert self._attempt is not None
        if not rewind(self._request, self._attempt):
            return Decision(again=False, reason="not replayable")
        if not self._sender.withdraw(self._origin, decision.cost, self._token.boot()):
            return Decision(again=False, reason="budget")
        return decision

    def _deny(self) -> None:
        """Record and report the reason why no attempt follows.

        A response that asks for no retry has no such reason.
        """
        if self._decision.reason:
            record = self._count.stop(self._decision.reason)
            self._trace.denied(self._token.id, record.number, self._decision.reason)

    def _schedule(self) -> None:
        rule, attempt, decision = self._rule, self._attempt, self._decision
        assert rule is not None
        assert attempt is not None
        if rule.when is When.CONFIGURED:
            # The server was slow once, and the same limit would probably end the retry too.
            self._limits = self._limits.longer()
        self._count.grant(rule, decision)
        record = self._count.records[-1]
        reason = record.error or f"status {record.status}"
        number = None if attempt.fault is None else errno_of(attempt.fault)
        if attempt.lease is not None:
            attempt.lease.retried()
        self._trace.scheduled(
            self._token.id, record, wait=decision.wait, reason=reason, errno=number
        )

    # -- the end ----------------------------------------------------------------------------------

    def _raise_for_exhausted(self, response: requests.Response) -> None:
        """Raise requests' RetryError if a Retry with ``raise_on_status`` has no attempt left."""
        stopped_by = self._count.records[-1].stopped_by
        if stopped_by not in (None, "policy"):
            with suppress(requests.RequestException):
                response.content  # noqa: B018  # reading returns the connection to the pool
            raise exhausted(response, self._request, self._origin, stopped_by)

    def _explain(self, error: Exception) -> None:
        """Write the attempts on an error, with the reason why there are no more."""
        records = self._count.records
        if records and records[-1].stopped_by is None:  # a retry was granted but never began
            self._decision = Decision(again=False, reason=ended_by(error))
            self._deny()
        explain(error, records, self._origin, self._request)


def _outcome(held: list[requests.Response | Exception]) -> requests.Response:
    outcome = held.pop()
    try:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome
    finally:
        # This frame is in the exception's traceback: a reference back would be a circle.
        del outcome
