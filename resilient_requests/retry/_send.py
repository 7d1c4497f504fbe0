"""One send: its attempts, what follows from each failure, and what is told about them."""

from __future__ import annotations

import functools
import sys
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import requests
import urllib3.exceptions
from requests.utils import rewind_body

from resilient_requests.call import _causes
from resilient_requests.call._attempt import Attempt, AttemptRecord, Limits, Phase, current
from resilient_requests.call._story import Pace, Story
from resilient_requests.exceptions import (
    Cancelled,
    DeadlineExceeded,
    StreamBroken,
    StreamIdle,
    portable,
)
from resilient_requests.retry import _failures, _operation, _retry
from resilient_requests.retry._failures import Failure, Verdict
from resilient_requests.retry._idempotency import IDEMPOTENCY_KEY, has_key
from resilient_requests.transport._register import Place

if TYPE_CHECKING:
    from collections.abc import Mapping

    import tenacity

    from resilient_requests.call._cancel import Call
    from resilient_requests.retry._operation import Sender
    from resilient_requests.transport._register import Register

__all__ = ["IDEMPOTENCY_KEY", "Send"]

_IN_MEMORY = (type(None), str, bytes, bytearray, memoryview)


class Send:
    """Runs one call of ``ResilientAdapter.send``; used once, by the thread that sends."""

    def __init__(
        self,
        sender: Sender,
        request: requests.PreparedRequest,
        call: Call,
        *,
        origin: str,
        limits: Limits,
        stream: bool,
        kwargs: dict[str, Any],
    ) -> None:
        self._sender = sender
        self._policy = sender.retry_policy
        self._story = call.story = Story(sender.emitter, origin, request.method or "")
        self._request = request
        self._call = call
        self._origin = origin
        self._stream = stream
        self._operation = _operation.join(sender, call, origin)
        self._limits = self._operation.limits(limits)
        self._kwargs = kwargs
        if self._limits is not limits:  # urllib3 names the limit in its errors
            self._kwargs = {**kwargs, "timeout": (limits.write, self._limits.response)}
        self._records: list[AttemptRecord] = self._operation.records
        self._attempt: Attempt | None = None
        self._verdict: Verdict | None = None
        self._has_retried_free = False
        self._has_retried_timeout = False
        self._pause = 0.0
        self._handled = sys.exc_info()[1]  # by the caller, or one of its callers

    def run(self) -> requests.Response:
        """Send, repeat by the rules, and return the response or raise the last attempt's own error."""
        try:
            response = self._run()
        except BaseException as error:
            if isinstance(error, Exception):
                if (
                    self._records and self._records[-1].stopped_by is None
                ):  # the attempt that was to come did not
                    self._stop(_failures.ended_by(error))
                with suppress(AttributeError):  # one of the caller's own may be frozen
                    error.attempts = tuple(self._records)  # type: ignore[attr-defined]
                    if isinstance(error, requests.RequestException):
                        self._name_request(error)
            self._call.leave()
            raise
        if self._stream or not response._content_consumed:
            # Without the adapter, which would live as long as the connection, and that, in its pool, as long as it.
            self._call.stream_ended = functools.partial(
                _stream_ended, self._sender.register, self._story
            )
        self._call.sent()
        if hasattr(response, "attempts"):
            response.attempts = tuple(self._records)
        return response

    def _name_request(self, error: requests.RequestException) -> None:
        error.request = portable(error.request or self._request)
        if error.response is not None:
            error.response.request = portable(error.response.request)

    def _run(self) -> requests.Response:
        try:
            response = self.attempt()
        except Exception as error:  # noqa: BLE001  # the loop raises it again
            first = functools.partial(_outcome, [error])
        else:
            if self._verdict is None:  # nobody wants it repeated
                return response
            first = functools.partial(_outcome, [response])
        response = _retry.replay(
            first,
            self.attempt,
            decide=self._decide,
            wait=lambda _: self._pause,
            sleep=functools.partial(self._sender.sleep, self._call),
        )
        # What is repeated only because of a Retry-After is returned in the end, as by urllib3.
        is_listed = self._policy.raise_on_status and self._repeats(response, {})
        if is_listed and self._records[-1].stopped_by not in (None, "policy"):
            reason = urllib3.exceptions.ResponseError(
                f"too many {response.status_code} error responses"
            )
            origin: Any = self._origin  # where urllib3 names its pool
            path = self._request.path_url.partition("?")[0]
            exhausted = urllib3.exceptions.MaxRetryError(origin, path, reason)
            raise requests.exceptions.RetryError(
                exhausted, request=self._request, response=response
            )
        return response

    def _repeats(self, response: requests.Response, headers: Mapping[str, str]) -> bool:
        return self._policy.repeats(self._request.method or "", response.status_code, headers)

    # -- one attempt --------------------------------------------------------------------------------------------

    def attempt(self) -> requests.Response:
        """Make one attempt, note what it did, and judge its failure."""
        call = self._call
        number = len(self._records) + 1
        attempt = Attempt(
            call, number, self._limits, fresh=self._operation.must_dial, since=call.boot()
        )
        self._attempt, self._verdict = attempt, None
        response = None
        try:
            self._story.started(attempt)
            call.check()
            with current(attempt):
                response = self._sender.send_once(
                    self._request, stream=self._stream, **self._kwargs
                )
                if not self._stream and not _is_challenge(self._request, response):
                    _read(response)
            call.check()
        except BaseException as error:
            if response is not None:
                response.close()  # its head came, and then the call was ended: nobody else will
            raised = self._failed(attempt, error)
            if raised is error:
                raise
            if raised is not attempt.own:
                raise raised from error
        else:
            self._succeeded(attempt, response)
            return response
        raise raised  # here, where it is as the caller's code has raised it

    def _succeeded(self, attempt: Attempt, response: requests.Response) -> None:
        attempt.status = status = response.status_code
        elapsed = self._call.boot() - attempt.since
        self._records.append(attempt.record(elapsed))
        if attempt.idle_for is not None:
            self._sender.register.good(attempt.place, attempt.idle_for)
        if self._repeats(response, response.headers):
            self._verdict = self._judged(Failure.STATUS, attempt)
        elif (bucket := self._sender.bucket(self._origin, create=False)) is not None:
            bucket.deposit(self._call.boot())
        self._story.succeeded(attempt, status, elapsed)

    def _failed(self, attempt: Attempt, error: BaseException) -> BaseException:
        """Note a failed attempt and what it teaches; return what to raise."""
        call = self._call
        call.release()
        elapsed = call.boot() - attempt.since
        ended = self._what_ended(error)
        raised = ended or attempt.own or error
        self._records.append(attempt.record(elapsed, _causes.describe(raised, self._handled)))
        if ended is None:
            self._verdict = self._judged(
                _failures.failure_of(error, attempt, self._handled), attempt
            )
        self._learn(attempt, ended)
        self._story.failed(attempt, raised, elapsed, self._handled)
        if ended is None and isinstance(error, StreamIdle):
            return _as_requests_would(error, attempt.place)
        return raised

    def _what_ended(self, error: BaseException) -> BaseException | None:
        """Return what ended the call: its own state decides, not what the socket raised when it was shut down."""
        if not isinstance(error, Exception):
            return None
        try:
            self._call.check()
        except (Cancelled, requests.RequestException) as ended:
            # The same class comes up from below when nothing stands in between: keep that object.
            is_same = type(error) is type(ended) and isinstance(
                ended, (Cancelled, DeadlineExceeded)
            )
            return error if is_same else ended
        return None

    def _judged(self, failure: Failure, attempt: Attempt) -> Verdict:
        method = (self._request.method or "").upper()
        is_idempotent = self._policy.covers(method)
        if is_idempotent is None:
            is_idempotent = method in _failures.IDEMPOTENT or has_key(self._request.headers)
        return _failures.judge(
            failure,
            stale=_failures.is_stale(attempt, self._call.boot()),
            idempotent=is_idempotent,
            response_timeouts=self._policy.retry_response_timeout and not self._has_retried_timeout,
            for_all=self._policy.repeats_any(attempt.status),
        )

    def _learn(self, attempt: Attempt, ended: BaseException | None) -> None:
        """Retire the origin's connections, and narrow its window, where the failure implicates them."""
        verdict, register = self._verdict, self._sender.register
        if attempt.place is None or attempt.generation < 0:
            return
        # Silence on a reused connection that a deadline ended is the only sign that a path drops silently.
        is_silence = (
            isinstance(ended, DeadlineExceeded) and attempt.reused and attempt.phase is Phase.WAIT
        )
        if is_silence or (verdict is not None and verdict.retires):
            reason = verdict.failure.value if verdict is not None else "deadline in silence"
            register.retire(attempt.place, attempt.generation, reason, self._call.id)
        if verdict is not None and verdict.teaches and attempt.idle_for is not None:
            register.stale(attempt.place, attempt.idle_for)

    # -- whether another follows --------------------------------------------------------------------------------

    def _decide(self, state: tenacity.RetryCallState) -> bool:
        """Return whether to repeat; tell why not, or what comes."""
        verdict, attempt = self._verdict, self._attempt
        outcome = state.outcome
        assert attempt is not None
        assert outcome is not None
        if verdict is None and not outcome.failed:
            return False  # a response that nobody wants repeated
        reason = self._why_not(verdict, state)
        if reason is not None:
            self._stop(reason)
            return False
        assert verdict is not None
        self._schedule(verdict, attempt)
        if outcome.failed:
            _let_go(outcome.exception(), self._handled)
        else:
            outcome.result().close()
        return True

    def _stop(self, reason: str) -> None:
        """Write down, and tell, why no further attempt follows."""
        record = self._records[-1] = self._records[-1]._replace(stopped_by=reason)
        self._story.denied(self._call.id, record.number, reason)

    def _why_not(self, verdict: Verdict | None, state: tenacity.RetryCallState) -> str | None:  # noqa: PLR0911
        """Return why no further attempt follows, in the order of the rules; None where one does."""
        assert self._attempt is not None
        assert state.outcome is not None
        if verdict is None:
            return _failures.ended_by(state.outcome.exception())
        if not verdict.replay:
            return "policy"
        if self._operation.retries >= self._policy.max_retries:
            return "exhausted"
        if not self._policy.allows(verdict.failure, self._operation.repeated):
            return "exhausted"
        if not self._rewind(self._attempt):
            return "not replayable"
        is_free = verdict.at_once and (verdict.cost == 0 or not self._has_retried_free)
        self._pause = 0.0 if is_free else self._wait(state)
        remaining = self._call.remaining()
        if remaining is not None and self._pause >= remaining:
            return "deadline"
        if not is_free and not self._withdraw(verdict.cost):
            return "budget"
        self._has_retried_free |= is_free and verdict.cost > 0
        return None

    def _wait(self, state: tenacity.RetryCallState) -> float:
        pause = _retry.pause(self._policy, state)
        if (
            state.outcome is not None
            and not state.outcome.failed
            and self._policy.respect_retry_after
        ):
            header = state.outcome.result().headers.get("Retry-After")
            pause = max(pause, _retry.retry_after(header) or 0.0)
        return pause

    def _withdraw(self, cost: int) -> bool:
        bucket = self._sender.bucket(self._origin, create=True)
        return bucket is None or bucket.withdraw(cost, self._call.boot())

    def _rewind(self, attempt: Attempt) -> bool:
        """Make the body ready to be sent once more; return False where it cannot be."""
        body = self._request.body
        if isinstance(body, _IN_MEMORY) or not attempt.body_touched:
            return True
        if isinstance(getattr(self._request, "_body_position", None), int):
            try:
                rewind_body(self._request)
            except requests.exceptions.UnrewindableBodyError:
                return False
            return True
        # An object that gives a new iterator each time can be read again; an iterator or a bare file cannot.
        return not hasattr(body, "__next__") and not hasattr(body, "read")

    def _schedule(self, verdict: Verdict, attempt: Attempt) -> None:
        if verdict.failure in (Failure.RESPONSE_TIMEOUT, Failure.BODY_STALLED):
            self._has_retried_timeout = True
            self._limits = _longer(self._limits)
        self._operation.repeated.append(verdict.failure)
        record = self._records[-1]
        reason = record.error or f"status {record.status}"
        number = None if attempt.fault is None else _causes.errno_of(attempt.fault, self._handled)
        if attempt.place is not None:
            self._sender.register.retried(attempt.place)
        self._story.scheduled(self._call.id, record, wait=self._pause, reason=reason, errno=number)


def _outcome(held: list[requests.Response | Exception]) -> requests.Response:
    outcome = held.pop()
    try:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome
    finally:
        del outcome


def _let_go(error: BaseException | None, handled: BaseException | None) -> None:
    """Take its traceback from an error that is repeated, and from what stands behind it; not from the caller's own.

    urllib3's frames refer to the error that they are in the traceback of, and to all frames below them: without this
    the response that came in the end would not be freed before the garbage collector comes by.
    """
    for each in () if error is None else _causes.causes(error, handled):
        each.__traceback__ = None


def _is_challenge(request: requests.PreparedRequest, response: requests.Response) -> bool:
    """Return whether an authentication handler will look at the response: NTLM's wants the connection, still open."""
    return response.status_code in {401, 407} and bool(request.hooks.get("response"))


def _read(response: requests.Response) -> None:
    """Read the whole body inside the attempt, so that the rules cover it."""
    try:
        response.content  # noqa: B018  # the property reads
    except (requests.exceptions.ContentDecodingError, requests.exceptions.ChunkedEncodingError):
        if not response.is_redirect:
            raise
        # requests follows a redirect though its body is cut, or does not match its Content-Encoding.
        response._content, response._content_consumed = b"", True


def _as_requests_would(error: StreamIdle, place: object) -> requests.ConnectionError:
    # With stream=False nobody has seen half of anything: code that knows requests' own error may go on.
    pool: Any = None  # the error needs no more of it than what it calls itself
    if isinstance(place, Place):
        pool = f"{place.scheme.upper()}ConnectionPool(host={place.host!r}, port={place.port})"
    return requests.ConnectionError(
        urllib3.exceptions.ReadTimeoutError(pool, "", "Read timed out."), request=error.request
    )


def _longer(limits: Limits) -> Limits:
    doubled = {
        name: value * 2
        for name in ("response", "idle")
        if (value := getattr(limits, name)) is not None
    }
    return replace(limits, **doubled)


def _stream_ended(
    register: Register,
    story: Story,
    attempt: Attempt,
    error: BaseException | None,
    pace: Pace,
    *,
    complete: bool,
) -> None:
    """A streamed response has ended: a silent or broken one implicates the connections of its generation."""
    is_dead = isinstance(error, StreamBroken) or (
        isinstance(error, StreamIdle) and error.clock == "bytes"
    )
    if is_dead and attempt.place is not None:
        register.retire(attempt.place, attempt.generation, type(error).__name__, attempt.call.id)
    story.ended(attempt, error, pace, complete=complete)
