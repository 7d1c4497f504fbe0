"""Uses one warm session in two processes at once, and counts the answers that are not theirs.

A program of its own: ``python -m resilient_requests.cli.demo._forked MODULE:ADAPTER URL CALLS``. The process of the
demonstration has threads, and a fork would copy the locks that they hold.
"""

from __future__ import annotations

import importlib
import os
import sys

import requests

__all__ = ["main"]


def main(adapter: str, url: str, calls: str) -> None:
    """Make so many calls in either process; write two lines to stdout, how many answers were right in each."""
    module, _, name = adapter.partition(":")
    session = requests.Session()
    session.trust_env = False
    session.mount("http://", getattr(importlib.import_module(module), name)())
    session.get(f"{url}/warm-up", timeout=5)
    child = os.fork()
    right = _right_answers(session, f"{url}/{'parent' if child else 'child'}", int(calls))
    os.write(sys.stdout.fileno(), b"%d\n" % right)
    if not child:
        os._exit(0)
    os.waitpid(child, 0)


def _right_answers(session: requests.Session, url: str, calls: int) -> int:
    right = 0
    for number in range(calls):
        try:
            response = session.get(f"{url}/{number}", timeout=(1, 0.5))
        except requests.RequestException:
            continue
        right += response.text == response.request.path_url  # the server echoes the path
    return right


if __name__ == "__main__":
    main(*sys.argv[1:])
