"""Settings of gunicorn with which a deploy ends streams in time.

Used by test_workers.py and shown in docs/fork.md.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

preload_app = True
graceful_timeout = 3  # gunicorn kills the worker then
GRACE = 1.0  # seconds for streams to finish; in the rest, views say that they were cut

at_work: set[Any] = set()  # the requests that have no answer yet


def pre_request(worker: Any, request: Any) -> None:
    """A request has come."""
    at_work.add(request)


def post_request(worker: Any, request: Any, environ: Any, response: Any) -> None:
    """Its answer has gone out, or its view has failed."""
    at_work.discard(request)


def post_worker_init(worker: Any) -> None:
    """Wait beside the worker for its end.

    gunicorn's own hook for that runs only after the last request.
    """
    threading.Thread(target=_end_streams, args=(worker,), daemon=True).start()


def _end_streams(worker: Any) -> None:
    from wsgi_app import adapter  # your application

    while worker.alive:
        time.sleep(0.1)
    ending = time.monotonic()
    adapter.shutdown(GRACE)
    # A gevent worker looks once a second whether it may end; after one it has stopped to accept.
    while at_work or time.monotonic() < ending + 1:
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGQUIT)
