"""The count of one operation: several sends with one budget and one deadline."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from resilient_requests.call import (
    CallTrace,
    CancelToken,
    Origin,
    current_operation,
    describe,
    errno_of,
)
from resilient_requests.exceptions import Cancelled, DeadlineExceeded
from resilient_requests.retry._decision import Decision, Facts, decide
from resilient_requests.retry._failures import ended_by
from resilient_requests.retry._loop import repeat
from resilient_requests.retry._policy import pause
from resilient_requests.retry._rules import Failure, Rule, When

if TYPE_CHECKING:
    from collections.abc import Callable

    import tenacity

    from resilient_requests.call import Attempt, AttemptRecord, Limits
    from resilient_requests.retry._sender import Sender

__all__ = ["RetryCount"]

T = TypeVar("T")

# The server has worked for a response that had begun: the caller's own rule allows the replay.
_REPLAY = Rule(Failure.BODY_CUT, When.ALWAYS, cost=2)


class RetryCount:
    """The sends of one operation: its redirects, retries and replays; each send belongs to one.

    As a context manager it takes in the sends of this thread. Sends of other adapters do not join,
    and are not repeated. Used by one thread at a time, except for ``cancel``. ``records`` holds an
    `AttemptRecord` per attempt.

    ``head_timeout``: seconds for the head of each response, if the limits of a send allow more.
    ``bounds_head`` says whether they did.
    """

    bounds_head = False
    free_retries = timeout_retries = 0
    _begun = 0  # sends that repeat nothing: the first, and one per redirect
    _is_replay = False
    _token: CancelToken | None = None
    _sender: Sender | None = None
    _trace: CallTrace | None = None
    _origin: Origin | None = None
    _decision = Decision(again=False)

    def __init__(self, head_timeout: float | None = None) -> None:
        self.records: list[AttemptRecord] = []
        self._head_timeout = head_timeout

    def __enter__(self) -> None:
        self._inside = current_operation(self)
        self._inside.__enter__()

    def __exit__(self, *exc_info: object) -> None:
        self._inside.__exit__()

    @property
    def retries(self) -> int:
        """The number of retries and replays, once the current attempt is recorded."""
        return len(self.records) - self._begun

    def cancel(self) -> None:
        """End the send or the wait; safe from any thread."""
        if self._token is not None:
            self._token.cancel()

    @classmethod
    def join(
        cls, sender: Sender, token: CancelToken, trace: CallTrace, origin: Origin
    ) -> RetryCount:
        """Return the count that a send belongs to: the one entered, else a new one."""
        entered = current_operation.get()
        count = entered if isinstance(entered, cls) else cls()
        count._begin(sender, token, trace, origin)
        return count

    def _begin(self, sender: Sender, token: CancelToken, trace: CallTrace, origin: Origin) -> None:
        self._begun += not self._is_replay
        self._is_replay = False
        self._sender, self._trace, self._origin = sender, trace, origin
        self._follow(token)

    def limits(self, given: Limits) -> Limits:
        """Return the limits of a send, which adapter and caller gave, under the head's own one."""
        head, response = self._head_timeout, given.response
        self.bounds_head = head is not None and (response is None or head < response)
        return replace(given, response=head) if self.bounds_head else given

    def _follow(self, token: CancelToken) -> None:
        # In this order: a cancel in between reaches the new token, or ended the earlier one.
        earlier, self._token = self._token, token
        if earlier is not None:
            token.succeed(earlier)

    # -- reports of attempts ----------------------------------------------------------------------

    def add(self, record: AttemptRecord) -> None:
        """An attempt has ended."""
        self.records.append(record)

    def stop(self, reason: str) -> AttemptRecord:
        """No attempt follows the last one, for ``reason``; return its record."""
        record = self.records[-1] = self.records[-1]._replace(stopped_by=reason)
        return record

    def grant(self, rule: Rule, decision: Decision) -> None:
        """A retry follows; count the grants that each operation has only once."""
        self.free_retries += rule.at_once and rule.cost > 0 and not decision.cost
        self.timeout_retries += rule.when is When.CONFIGURED

    def note(self, error: BaseException, attempt: Attempt | None) -> None:
        """Record that the response of the last attempt failed after its head."""
        if not self.records:
            return
        record = self.records[-1]._replace(error=describe(error), stopped_by="policy")
        if attempt is not None:
            record = record._replace(bytes_received=attempt.bytes_received, elapsed=attempt.age)
        self.records[-1] = record

    # -- replays of a response that had begun -----------------------------------------------------

    def replay(
        self, error: Exception, again: Callable[[], T], is_worth: Callable[[BaseException], bool]
    ) -> T:
        """Repeat ``again`` after ``error``, as far as the rules allow it; raise the last error.

        ``is_worth`` tells whether an error is worth a replay.
        """

        def is_due(state: tenacity.RetryCallState) -> bool:
            failure = state.outcome.exception() if state.outcome is not None else None
            return failure is not None and is_worth(failure) and self._prepare(failure, state)

        def first() -> T:
            raise error

        try:
            result: T = repeat(
                first, again, is_due=is_due, wait=lambda: self._decision.wait, sleep=self._sleep
            )
        except Exception as ended:
            if self._is_replay:  # a replay was granted but never began
                self._deny(ended_by(ended))
            raise
        return result

    def _prepare(self, error: BaseException, state: tenacity.RetryCallState) -> bool:
        """Decide on a replay and act on it."""
        sender, token, origin = self._sender, self._token, self._origin
        if sender is None or token is None or origin is None or not self.records:
            return False
        self._decision = decision = self._decide(sender, token, state)
        if decision.again and not sender.withdraw(origin, decision.cost, token.boot()):
            decision = Decision(again=False, reason="budget")
        if not decision.again:
            self._deny(decision.reason)
            return False
        record = self.records[-1] = self.records[-1]._replace(stopped_by=None)
        if self._trace is not None:
            why = record.error or type(error).__name__
            number = errno_of(error)
            self._trace.scheduled(token.id, record, wait=decision.wait, reason=why, errno=number)
        self._is_replay = True
        return True

    def _decide(
        self, sender: Sender, token: CancelToken, state: tenacity.RetryCallState
    ) -> Decision:
        try:
            token.check()
        except (Cancelled, DeadlineExceeded) as ended:
            return Decision(again=False, reason=ended_by(ended))
        facts = Facts(retries=self.retries, idempotent=True, remaining=token.remaining())
        first = decide(_REPLAY, sender.policy, facts)
        return (
            decide(_REPLAY, sender.policy, facts, pause(sender.policy, state))
            if first.again
            else first
        )

    def _deny(self, reason: str) -> None:
        record = self.stop(reason)
        if self._trace is not None and self._token is not None:
            self._trace.denied(self._token.id, record.number, reason)

    def _sleep(self, seconds: float) -> None:
        if self._sender is None or self._token is None:
            return
        token = CancelToken(clock=self._token.clock)
        self._follow(token)
        try:
            self._sender.sleep(token, seconds)
        finally:
            token.leave()
