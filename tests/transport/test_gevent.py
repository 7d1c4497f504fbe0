"""Under gevent, patched first or late, every way out of a call works as it does with threads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("gevent", reason="needs gevent: pip install --group partners")

SCRIPT = Path(__file__).resolve().parents[1] / "support" / "gevent_script.py"
PROMISED = {
    "cancel of a stream": "Cancelled",
    "stall": "StreamIdle",
    "heartbeat": "intact",
    "cancel before the head": "Cancelled",
    "gevent.Timeout": "Timeout",
    **{
        f"{kind} {place}": kind
        for kind in ("OSError", "TimeoutError", "Timeout")
        for place in ("before the head", "in a body", "in a stream")
    },
    "close of raw": "None, Cancelled",
    "shutdown": "StreamBroken",
    "left": "=0 idle=0>",
}


@pytest.mark.slow
@pytest.mark.parametrize(("when", "wires"), [("early", 4), ("late", 2)])
def test_every_way_out_works_in_greenlets(when: str, wires: int) -> None:
    """Its sockets wake with EBADF; on a close-delimited body a thread's socket sees a clean end."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), when], capture_output=True, text=True, timeout=50, check=False
    )

    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert len(results) == wires
    for wire, outcomes in results.items():
        assert outcomes == PROMISED, wire
