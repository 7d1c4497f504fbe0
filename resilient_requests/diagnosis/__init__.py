"""Records of the calls under way, with the kernel's view and a judgement: why a call hangs."""

from resilient_requests.diagnosis._dump import dump, dump_on
from resilient_requests.diagnosis._look import records
from resilient_requests.diagnosis._record import InFlight
from resilient_requests.diagnosis._tcp import TCPView

__all__ = ["InFlight", "TCPView", "dump", "dump_on", "records"]
