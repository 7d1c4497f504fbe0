"""The ends of a call without a response: their errors, and the attempts written on them."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import requests
import urllib3.exceptions

from resilient_requests.call import causes
from resilient_requests.exceptions import counted, portable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resilient_requests.call import Attempt, AttemptRecord, Origin
    from resilient_requests.exceptions import StreamIdle

__all__ = ["as_requests_would", "exhausted", "explain", "let_go"]


def explain(
    error: Exception,
    records: Sequence[AttemptRecord],
    origin: Origin,
    request: requests.PreparedRequest,
) -> None:
    """Write the attempts on an error, as ``attempts`` and as a note; make it fit to pickle."""
    with suppress(AttributeError):  # an exception of the caller's may be frozen
        error.attempts = tuple(records)  # type: ignore[attr-defined]
        if isinstance(error, requests.RequestException):
            error.request = portable(error.request or request)
            if error.response is not None:
                error.response.request = portable(error.response.request)
            _add_note(error, records, origin)


def _add_note(error: Exception, records: Sequence[AttemptRecord], origin: Origin) -> None:
    if not hasattr(error, "add_note"):  # Python 3.10
        return
    count = counted(len(records), "attempt")
    why = f", no more: {records[-1].stopped_by}" if records else ""
    error.add_note(f"resilient_requests: {count} at {origin}{why}")


def exhausted(
    response: requests.Response,
    request: requests.PreparedRequest,
    origin: Origin,
    stopped_by: str | None,
) -> requests.exceptions.RetryError:
    """Return requests' error for a Retry with ``raise_on_status`` and no attempt left."""
    status = response.status_code
    reason = urllib3.exceptions.ResponseError(
        f"too many {status} error responses, and no attempt is left: {stopped_by}"
    )
    pool: Any = str(origin)  # urllib3 shows its pool here
    path = request.path_url.partition("?")[0]
    error = urllib3.exceptions.MaxRetryError(pool, path, reason)
    return requests.exceptions.RetryError(error, request=request, response=response)


def as_requests_would(error: StreamIdle, attempt: Attempt) -> requests.ConnectionError:
    """Return requests' own error for a stalled body of which the caller has seen nothing.

    Existing code handles that error, and no part of a stream can be shown twice.
    """
    pool: Any = None  # the message needs nothing of a pool but its text
    if attempt.lease is not None:
        origin: Any = attempt.lease.origin
        pool = f"{origin.scheme.upper()}ConnectionPool(host={origin.host!r}, port={origin.port})"
    return requests.ConnectionError(
        urllib3.exceptions.ReadTimeoutError(pool, "", "Read timed out."), request=error.request
    )


def let_go(error: BaseException | None) -> None:
    """Drop the traceback of an error that is retried, and of its causes.

    A frame of urllib3 refers to the error, and the error's traceback to the frame. The garbage
    collector alone would free that circle, and with it the later response.
    """
    for each in () if error is None else causes(error):
        each.__traceback__ = None
