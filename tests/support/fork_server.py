"""A server in a process of its own, for the tests of forks under load.

Its handshakes must not be in the process that forks. Prints its URL and the file with its
certificate, and serves until its standard input ends.
"""

from __future__ import annotations

import sys
import threading

from resilient_requests.testing import FaultServer, ReceivedRequest, Reply, respond, stream

GATES: dict[str, threading.Event] = {}


def reply(request: ReceivedRequest) -> Reply:
    """Echo the target; /go-on and a name release the second half of the stream of that name."""
    word, target = request.target.encode(), request.target
    if target.startswith("/go-on"):
        GATES.setdefault(target.removeprefix("/go-on"), threading.Event()).set()
    if target.startswith("/held"):
        return stream([word, GATES.setdefault(target, threading.Event()), word])
    if target.startswith("/flow"):
        return stream([word] * 20)
    # So that some thread dials at every moment.
    return respond(
        word + request.body, headers={"Connection": "close"} if request.number % 8 == 0 else {}
    )


if __name__ == "__main__":
    with FaultServer(tls=sys.argv[1] == "tls", default=reply) as server:
        print(server.url, server.ca_path or "", flush=True)  # noqa: T201
        sys.stdin.read()
