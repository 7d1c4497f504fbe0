"""Forked children that do some work while the parent goes on."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import traceback
import weakref
from typing import TYPE_CHECKING

from resilient_requests.call import _process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pytest

PATIENCE = 40
"""Seconds after which a child hangs."""


@contextlib.contextmanager
def child(work: Callable[[], object], patience: float = PATIENCE) -> Iterator[None]:
    """Do some work in a forked child while the body runs here; it must succeed."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(ours)
            work()
            code = 0
        except BaseException:  # noqa: BLE001 - nothing may run the parent's code in here
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(theirs)
    try:
        yield
        ended, _, _ = select.select([ours], [], [], patience)
        assert ended, "the child hangs"
    finally:
        with contextlib.suppress(ProcessLookupError):
            if not select.select([ours], [], [], 0)[0]:
                os.kill(pid, signal.SIGKILL)
        os.close(ours)
        _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def forget_by_process_id(patch: pytest.MonkeyPatch) -> None:
    """Let children learn of the fork by their process id alone: uWSGI runs no at-fork hook."""
    patch.setattr(_process, "_PROCESSES", weakref.WeakSet())
