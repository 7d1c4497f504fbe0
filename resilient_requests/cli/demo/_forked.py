"""Uses one warm session in two processes at once, and counts the answers that are mixed up.

It is a separate program: ``python -m resilient_requests.cli.demo._forked MODULE:ADAPTER URL
CALLS``. The process of the demonstration has threads, and a fork would copy their locks.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import time
from typing import TYPE_CHECKING

import requests

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["main"]


def main(adapter: str, url: str, calls: str) -> None:
    """Make so many calls in either process, and print how many answers were right in each."""
    module, _, name = adapter.partition(":")
    session = requests.Session()
    session.trust_env = False
    session.mount("http://", getattr(importlib.import_module(module), name)())
    session.get(f"{url}/warm-up", timeout=5)
    parent, child = os.getpid(), os.fork()
    right = 0
    for number in range(int(calls)):
        with contextlib.nullcontext() if child else _stopped(parent):
            right += _is_right(session, f"{url}/{'parent' if child else 'child'}/{number}")
    os.write(sys.stdout.fileno(), b"%d\n" % right)
    if not child:
        os._exit(0)
    os.waitpid(child, 0)


@contextlib.contextmanager
def _stopped(process: int) -> Iterator[None]:
    """Stop a process just before it reads its answer, as the scheduler of a busy machine does."""
    time.sleep(0.005)
    try:
        os.kill(process, signal.SIGSTOP)
        yield
    finally:
        os.kill(process, signal.SIGCONT)


def _is_right(session: requests.Session, url: str) -> bool:
    path = url[url.index("/", len("http://")) :]
    try:
        return session.get(url, timeout=(5, 2)).text == path  # the server echoes it
    except requests.RequestException:
        return False


if __name__ == "__main__":
    main(*sys.argv[1:])
