"""How a call ends without a response: its error, and what its attempts did written on it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import requests
import urllib3.exceptions

from resilient_requests.call import causes
from resilient_requests.exceptions import portable

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
    """Write the attempts on an error, as ``attempts`` and in words; give it a request to pickle."""
    with suppress(AttributeError):  # one of the caller's own may be frozen
        error.attempts = tuple(records)  # type: ignore[attr-defined]
        if isinstance(error, requests.RequestException):
            error.request = portable(error.request or request)
            if error.response is not None:
                error.response.request = portable(error.response.request)
            _add_note(error, records, origin)


def _add_note(error: Exception, records: Sequence[AttemptRecord], origin: Origin) -> None:
    if not hasattr(error, "add_note"):  # Python 3.10
        return
    count = f"{len(records)} attempt{'' if len(records) == 1 else 's'}"
    why = f", no more: {records[-1].stopped_by}" if records else ""
    error.add_note(f"resilient_requests: {count} at {origin}{why}")


def exhausted(
    response: requests.Response,
    request: requests.PreparedRequest,
    origin: Origin,
    stopped_by: str | None,
) -> requests.exceptions.RetryError:
    """Return what requests raises where a Retry with ``raise_on_status`` has no attempt left."""
    status = response.status_code
    reason = urllib3.exceptions.ResponseError(
        f"too many {status} error responses, and no attempt is left: {stopped_by}"
    )
    pool: Any = str(origin)  # where urllib3 names its pool
    path = request.path_url.partition("?")[0]
    error = urllib3.exceptions.MaxRetryError(pool, path, reason)
    return requests.exceptions.RetryError(error, request=request, response=response)


def as_requests_would(error: StreamIdle, attempt: Attempt) -> requests.ConnectionError:
    """Return requests' own error for a body that stalled where nobody has seen a part of it.

    Code that knows that one may go on.
    """
    pool: Any = None  # the error needs no more of it than what it calls itself
    if attempt.lease is not None:
        origin: Any = attempt.lease.origin
        pool = f"{origin.scheme.upper()}ConnectionPool(host={origin.host!r}, port={origin.port})"
    return requests.ConnectionError(
        urllib3.exceptions.ReadTimeoutError(pool, "", "Read timed out."), request=error.request
    )


def let_go(error: BaseException | None) -> None:
    """Take its traceback from an error that is repeated, and from what stands behind it.

    urllib3's frames refer to the error that they are in the traceback of, and to all frames below
    them: without this the response that came in the end would not be freed before the garbage
    collector comes by.
    """
    for each in () if error is None else causes(error):
        each.__traceback__ = None
