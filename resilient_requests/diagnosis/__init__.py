"""What hangs, and why: the calls under way as records, with the kernel's view and a judgement.

`records` looks at calls without a lock; `dump` writes what it sees, also from a signal handler.
"""

from resilient_requests.diagnosis._dump import dump
from resilient_requests.diagnosis._look import records
from resilient_requests.diagnosis._record import InFlight
from resilient_requests.diagnosis._signal import dump_on
from resilient_requests.diagnosis._tcp import Probing, TCPView

__all__ = ["InFlight", "Probing", "TCPView", "dump", "dump_on", "records"]
