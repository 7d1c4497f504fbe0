"""The facts of one call while it runs: its clocks, limits, scope, attempts and events.

A `CancelToken` stands for the call: scopes, deadlines and shutdown end the call through it. An
`Attempt` is one try; the transport writes its facts as they come about. A `CallTrace` reports the
call to observers and to the log.
"""

from resilient_requests.call._attempt import Attempt
from resilient_requests.call._causes import causes, describe, errno_in, errno_of, foreign_in
from resilient_requests.call._clock import Clock, Instant, boot, now
from resilient_requests.call._current import AdapterRetry, current_attempt, current_operation
from resilient_requests.call._events import (
    AttemptFailed,
    AttemptStarted,
    AttemptSucceeded,
    ConnectionOpened,
    ConnectionRecycled,
    Event,
    PoolRotated,
    RetryDenied,
    RetryScheduled,
    StreamEnded,
)
from resilient_requests.call._facts import AttemptRecord, BodyReader, Lease, Phase
from resilient_requests.call._log import warn_bad_environment, warn_certificates
from resilient_requests.call._origin import Origin, up_to_authority
from resilient_requests.call._process import Process
from resilient_requests.call._scope import CancelScope
from resilient_requests.call._timeouts import Limits, Timeouts, as_urllib3, limits_of
from resilient_requests.call._token import CallsInFlight, CancelToken, Wakeable
from resilient_requests.call._trace import CallTrace, Observer, Observers

__all__ = [
    "AdapterRetry",
    "Attempt",
    "AttemptFailed",
    "AttemptRecord",
    "AttemptStarted",
    "AttemptSucceeded",
    "BodyReader",
    "CallTrace",
    "CallsInFlight",
    "CancelScope",
    "CancelToken",
    "Clock",
    "ConnectionOpened",
    "ConnectionRecycled",
    "Event",
    "Instant",
    "Lease",
    "Limits",
    "Observer",
    "Observers",
    "Origin",
    "Phase",
    "PoolRotated",
    "Process",
    "RetryDenied",
    "RetryScheduled",
    "StreamEnded",
    "Timeouts",
    "Wakeable",
    "as_urllib3",
    "boot",
    "causes",
    "current_attempt",
    "current_operation",
    "describe",
    "errno_in",
    "errno_of",
    "foreign_in",
    "limits_of",
    "now",
    "up_to_authority",
    "warn_bad_environment",
    "warn_certificates",
]
