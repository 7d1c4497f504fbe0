"""urllib3's Retry: a given one decides as in urllib3; one that is read carries our policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import urllib3
import urllib3.exceptions

from resilient_requests.call import AdapterRetry, causes
from resilient_requests.retry._decision import Decision, Facts
from resilient_requests.retry._policy import RetryPolicy

if TYPE_CHECKING:
    import requests

__all__ = ["PolicyCarrier", "TranslatedPolicy", "TranslatedRetries", "policy_of"]


@dataclass(frozen=True, kw_only=True)
class TranslatedPolicy(RetryPolicy):
    """The policy of a urllib3 Retry, kept whole: a subclass may have rules of its own."""

    retry: urllib3.Retry

    def bounded(self) -> urllib3.Retry:
        """Return the Retry, with the present ``max_retries``."""
        if self.max_retries == _most_of(self.retry):
            return self.retry
        return self.retry.new(total=self.max_retries)  # changed by `dataclasses.replace`


class PolicyCarrier(AdapterRetry):
    """The Retry that ``adapter.max_retries`` returns; it makes urllib3 itself never retry.

    It is a Retry, because the package `responses` calls its methods. ``policy`` is the adapter's
    own, for another adapter that is given this object.
    """

    policy: RetryPolicy | None = None

    @classmethod
    def of(cls, policy: RetryPolicy) -> PolicyCarrier:
        """Return a Retry that carries a policy."""
        # As requests' default: urllib3 repeats nothing, and leaves read errors unwrapped.
        carrier = cls(0, read=False)
        carrier.policy = policy
        if isinstance(policy, TranslatedPolicy):
            carrier.plain = policy.bounded()
        return carrier


def policy_of(retry: urllib3.Retry) -> RetryPolicy:
    """Return a policy that does for a call what a urllib3 Retry does, but recycles connections.

    ``redirect`` has no effect: requests follows redirects itself.
    """
    if isinstance(retry, PolicyCarrier) and retry.policy is not None:
        return retry.policy
    # urllib3 has no budget, so a translated policy has none.
    return TranslatedPolicy(max_retries=_most_of(retry), budget=None, retry=retry)


def _most_of(retry: urllib3.Retry) -> int:
    kinds = (retry.connect, retry.read, retry.status, retry.other)
    known = sum(each for each in kinds if each is not None)
    return int(known if retry.total is None else retry.total)


class TranslatedRetries:
    """The count of a urllib3 Retry for one call; each step makes a new object, as in urllib3."""

    def __init__(self, policy: TranslatedPolicy, request: requests.PreparedRequest) -> None:
        self._retry = policy.bounded()
        self._method = request.method or ""
        # For messages. Without the query, which may hold a secret.
        self._path = request.path_url.partition("?")[0]

    def wants(self, response: requests.Response) -> bool:
        """Return True if urllib3 would ask the Retry for another attempt after this response."""
        has_retry_after = bool(response.headers.get("Retry-After"))
        return bool(self._retry.is_retry(self._method, response.status_code, has_retry_after))

    @property
    def raises_on_status(self) -> bool:
        """True if a response with a retried status is an error once the retries are used up."""
        return bool(self._retry.raise_on_status)

    def tell(self, response: requests.Response) -> None:
        """Leave the Retry, with its history, where urllib3 leaves it."""
        raw: Any = getattr(response, "raw", None)
        if hasattr(raw, "retries"):
            raw.retries = self._retry

    def decide(
        self, error: BaseException | None, response: requests.Response | None, facts: Facts
    ) -> Decision:
        """Return urllib3's decision after an error, or after a response.

        Raises an error of its own that a subclass's ``increment`` raises.
        """
        failure = None if error is None else _as_urllib3_saw(error)
        if error is not None and failure is None:
            return Decision(again=False, reason="policy")
        raw: Any = None if response is None else response.raw
        try:
            self._retry = self._retry.increment(
                self._method, self._path, response=raw, error=failure
            )
        except urllib3.exceptions.MaxRetryError:
            return Decision(again=False, reason="exhausted")
        except urllib3.exceptions.HTTPError:  # the kind of error, or the method, is not retried
            return Decision(again=False, reason="policy")
        if not facts.replayable:
            return Decision(again=False, reason="not replayable")
        wait = self._wait(raw)
        if facts.remaining is not None and wait >= facts.remaining:
            return Decision(again=False, reason="deadline")
        return Decision(again=True, wait=wait)

    def _wait(self, response: Any) -> float:
        retry = self._retry
        if response is not None and retry.respect_retry_after_header:
            try:
                seconds = retry.get_retry_after(response)
            except (urllib3.exceptions.InvalidHeader, ValueError, OverflowError):
                seconds = None
            if seconds:
                return max(float(seconds), 0.0)
        return max(float(retry.get_backoff_time()), 0.0)


def _as_urllib3_saw(error: BaseException) -> Exception | None:
    """Return the error that urllib3 would hand to the Retry; None if it would not ask."""
    kinds = (
        urllib3.exceptions.TimeoutError,  # connect and read
        urllib3.exceptions.ProtocolError,
        urllib3.exceptions.SSLError,
        urllib3.exceptions.ProxyError,
        urllib3.exceptions.NewConnectionError,
    )
    return next((each for each in causes(error) if isinstance(each, kinds)), None)
