"""Several sends that are one operation to the caller, with one count of retries, one budget and one deadline."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from resilient_requests.call import _causes
from resilient_requests.call._cancel import Call
from resilient_requests.call._story import Story
from resilient_requests.exceptions import Cancelled, DeadlineExceeded
from resilient_requests.retry import _failures, _retry
from resilient_requests.retry._failures import Failure

if TYPE_CHECKING:
    from collections.abc import Callable

    import requests
    import tenacity

    from resilient_requests.call._attempt import Attempt, AttemptRecord, Limits
    from resilient_requests.call._events import Emitter
    from resilient_requests.retry._budget import TokenBucket
    from resilient_requests.retry._retry import RetryPolicy
    from resilient_requests.transport._register import Register

__all__ = ["Operation", "Sender", "join"]

T = TypeVar("T")

# Of a request whose response had begun: the server has worked for it.
_COST = 2


class Sender(Protocol):
    """What a send needs from its adapter."""

    retry_policy: RetryPolicy
    emitter: Emitter
    register: Register

    def send_once(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response: ...
    def bucket(self, origin: str, *, create: bool) -> TokenBucket | None: ...
    def sleep(self, call: Call, seconds: float) -> None: ...


class Operation:
    """What the sends of one operation share; every send has one.

    A context manager: what this thread sends inside belongs to it. Without an adapter of ours beneath, nothing
    joins, and nothing is repeated. Belongs to one thread at a time, but for ``cancel``.

    ``head_timeout``: seconds for the head of each response, where the limits of a send allow more. ``bounds_head``
    says whether they have.
    """

    __slots__ = (
        "_begun",
        "_call",
        "_head_timeout",
        "_is_replay",
        "_origin",
        "_outer",
        "_pause",
        "_sender",
        "bounds_head",
        "records",
        "repeated",
    )

    def __init__(self, head_timeout: float | None = None) -> None:
        self.bounds_head = False
        self._head_timeout = head_timeout
        self.records: list[AttemptRecord] = []
        self.repeated: list[Failure] = []
        self._begun = 0  # sends that repeat nothing: the first one, and one per redirect
        self._is_replay = False
        self._call: Call | None = None
        self._sender: Sender | None = None
        self._origin = ""
        self._pause = 0.0

    def __enter__(self) -> None:
        self._outer = _CURRENT.get()
        _CURRENT.set(self)

    def __exit__(self, *exc_info: object) -> None:
        _CURRENT.set(self._outer)

    @property
    def retries(self) -> int:
        """How often it has been repeated, by whomever, once an attempt has been noted."""
        return len(self.records) - self._begun

    @property
    def must_dial(self) -> bool:
        """Whether the next attempt repeats an earlier one: it never takes a pooled connection."""
        return self.retries >= 0

    def cancel(self) -> None:
        """End what is being sent, or waited for; safe from any thread."""
        if self._call is not None:
            self._call.cancel()

    def begin(self, sender: Sender, call: Call, origin: str) -> None:
        """A send begins."""
        self._begun += not self._is_replay
        self._is_replay = False
        self._sender, self._origin = sender, origin
        self._follow(call)

    def limits(self, given: Limits) -> Limits:
        """Return the limits of a send, which adapter and caller gave, with the head's of this operation."""
        head, response = self._head_timeout, given.response
        self.bounds_head = head is not None and (response is None or head < response)
        return replace(given, response=head) if self.bounds_head else given

    def _follow(self, call: Call) -> None:
        # In this order, so that a cancel in between is seen either by the new call or in the earlier one.
        earlier, self._call = self._call, call
        if earlier is not None:
            call.inherit(earlier)

    # -- replays after a response had begun -------------------------------------------------------------------

    def note(self, error: BaseException, attempt: Attempt | None) -> None:
        """Write down that the response of the last attempt came to nothing."""
        if not self.records:
            return
        record = self.records[-1]._replace(error=_causes.describe(error), stopped_by="policy")
        if attempt is not None:
            elapsed = attempt.call.boot() - attempt.since
            record = record._replace(bytes_received=attempt.bytes_received, elapsed=elapsed)
        self.records[-1] = record

    def replay(
        self, error: Exception, again: Callable[[], T], is_worth: Callable[[BaseException], bool]
    ) -> T:
        """Repeat ``again`` after ``error`` while the rules allow and ``is_worth`` says so; raise the last error."""

        def decide(state: tenacity.RetryCallState) -> bool:
            failure = state.outcome.exception() if state.outcome is not None else None
            return failure is not None and is_worth(failure) and self._may_replay(failure, state)

        def first() -> T:
            raise error

        try:
            result: T = _retry.replay(
                first, again, decide=decide, wait=lambda _: self._pause, sleep=self._sleep
            )
        except Exception as ended:
            if (
                self._is_replay and self._sender is not None and self._call is not None
            ):  # it has not begun
                self._stop(self._sender, self._call, _failures.ended_by(ended))
            raise
        return result

    def _may_replay(self, error: BaseException, state: tenacity.RetryCallState) -> bool:
        sender, call = self._sender, self._call
        if sender is None or call is None or not self.records:
            return False
        reason = self._why_not(sender, call, state)
        if reason is not None:
            self._stop(sender, call, reason)
            return False
        record = self.records[-1] = self.records[-1]._replace(stopped_by=None)
        why = record.error or type(error).__name__
        story = Story(sender.emitter, self._origin)
        story.scheduled(
            call.id, record, wait=self._pause, reason=why, errno=_causes.errno_of(error)
        )
        self._is_replay = True
        self.repeated.append(Failure.BODY_CUT)
        return True

    def _stop(self, sender: Sender, call: Call, reason: str) -> None:
        record = self.records[-1] = self.records[-1]._replace(stopped_by=reason)
        Story(sender.emitter, self._origin).denied(call.id, record.number, reason)

    def _why_not(self, sender: Sender, call: Call, state: tenacity.RetryCallState) -> str | None:
        policy = sender.retry_policy
        if self.retries >= policy.max_retries or not policy.allows(Failure.BODY_CUT, self.repeated):
            return "exhausted"
        try:
            call.check()
        except (Cancelled, DeadlineExceeded) as ended:
            return _failures.ended_by(ended)
        self._pause = _retry.pause(policy, state)
        remaining = call.remaining()
        if remaining is not None and self._pause >= remaining:
            return "deadline"
        bucket = sender.bucket(self._origin, create=True)
        return None if bucket is None or bucket.withdraw(_COST, call.boot()) else "budget"

    def _sleep(self, seconds: float) -> None:
        if self._sender is None or self._call is None:
            return
        call = Call(clock=self._call.clock)
        self._follow(call)
        try:
            self._sender.sleep(call, seconds)
        finally:
            call.leave()


_CURRENT: ContextVar[Operation | None] = ContextVar("resilient_requests_operation", default=None)


def join(sender: Sender, call: Call, origin: str) -> Operation:
    """Return the operation that a send belongs to: one that was entered, else one of its own."""
    operation = _CURRENT.get() or Operation()
    operation.begin(sender, call, origin)
    return operation
