"""A real terminal of a given size, on which a command runs as a shell would run it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import struct
import subprocess
import sys
import termios
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from typing_extensions import Self

_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_CTRL_C = b"\x03"
# The kernel sends the signal of Ctrl-C to the session that owns the terminal. The session leader
# has to claim it: in the child of a process with threads nothing but an exec is safe. The signal is
# ignored, and stays so, where the tests themselves run as a background job of a script.
_TAKE_TERMINAL = (
    "import fcntl, os, signal, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
)


class Terminal:
    """The output on a terminal so far; used by one thread.

    ``text`` has no escape sequences, ``raw`` has them.
    """

    def __init__(self, descriptor: int, process: subprocess.Popen[bytes], patience: float) -> None:
        self._descriptor = descriptor
        self._process = process
        self._until = time.monotonic() + patience
        self.raw = ""

    @property
    def text(self) -> str:
        """The printed text, without escape sequences."""
        return _SEQUENCE.sub("", self.raw).replace("\r\n", "\n")

    def wait_for(self, text: str) -> Self:
        """Read until a text has been printed."""
        while text not in self.text:
            assert self._read(), f"{text!r} was not printed, but {self.text!r}"
        return self

    def press_ctrl_c(self) -> Self:
        """Interrupt the command and all that it has started, as the key does."""
        os.write(self._descriptor, _CTRL_C)
        return self

    def end(self) -> int:
        """Read to the end, and return the exit code."""
        while self._read():
            pass
        return self._process.wait(max(self._until - time.monotonic(), 0.1))

    def _read(self) -> bool:
        readable, _, _ = select.select(
            [self._descriptor], [], [], max(self._until - time.monotonic(), 0.0)
        )
        assert readable, f"the command hangs after {self.text!r}"
        try:
            data = os.read(self._descriptor, 1 << 16)
        except OSError:  # EIO: Linux's way to say that nobody has the other side open
            return False
        self.raw += data.decode(errors="replace")
        return bool(data)


@contextlib.contextmanager
def terminal(
    command: Sequence[str],
    *,
    columns: int = 80,
    lines: int = 24,
    stderr_apart: bool = False,
    environment: Mapping[str, str] | None = None,
    patience: float = 40.0,
) -> Iterator[Terminal]:
    """Run a command on a terminal; where ``stderr_apart``, only its stdout arrives there."""
    ours, theirs = os.openpty()
    process = None
    try:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        process = subprocess.Popen(
            [sys.executable, "-c", _TAKE_TERMINAL, *command],
            stdin=theirs,
            stdout=theirs,
            stderr=subprocess.DEVNULL if stderr_apart else theirs,
            start_new_session=True,
            env=_environment(environment or {}),
        )
        os.close(theirs)
        theirs = -1
        yield Terminal(ours, process, patience)
    finally:
        if process is not None:
            process.kill()
            process.wait()
        for descriptor in (ours, theirs):
            if descriptor >= 0:
                os.close(descriptor)


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    # rich believes these two more than the terminal itself.
    own = {name: each for name, each in os.environ.items() if name not in ("COLUMNS", "LINES")}
    return {**own, "TERM": "xterm-256color", **more}
