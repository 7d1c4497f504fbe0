"""What hangs, and why: the calls under way as records, with the kernel's view and a judgement."""

from resilient_requests.diagnosis._dump import dump, dump_on
from resilient_requests.diagnosis._look import records
from resilient_requests.diagnosis._record import InFlight
from resilient_requests.diagnosis._tcp import TCPView

__all__ = ["InFlight", "TCPView", "dump", "dump_on", "records"]
