"""Settings of gunicorn under which a deploy ends streams in time; used by test_workers.py and shown in docs/fork.md."""

from __future__ import annotations

import threading
import time
from typing import Any

preload_app = True
graceful_timeout = 3  # gunicorn kills the worker then
GRACE = 1.0  # what streams get to finish; the rest is for the views to say that they were cut


def post_worker_init(worker: Any) -> None:
    """Wait beside the worker for its end: gunicorn's own hook for that runs only when all requests are over."""
    threading.Thread(target=_end_streams, args=(worker,), daemon=True).start()


def _end_streams(worker: Any) -> None:
    from served import adapter  # your application

    while worker.alive:
        time.sleep(0.1)
    adapter.shutdown(GRACE)
