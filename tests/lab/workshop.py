"""A directory and the processes that belong to one laboratory, always removed at its end."""

from __future__ import annotations

import atexit
import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
PREFIX = "resilient-requests-lab-"
PATIENCE = 5.0
"""Seconds that a killed process has to go."""


def started(pid: int) -> int | None:
    """Return the start of a process in ticks since boot, or None if there is no such process.

    The kernel gives a pid again, but never with the same start.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # the name before it may contain anything
    return None if fields[0] in "ZX" else int(fields[19])


def is_alive(pid: int, since: int) -> bool:
    """True if that very process is running, and not a later one with the same pid."""
    return started(pid) == since


def is_stopped(pid: int) -> bool:
    """True if a signal has stopped every thread of a process."""
    stats = [
        (task / "stat").read_text(encoding="utf-8") for task in Path(f"/proc/{pid}/task").iterdir()
    ]
    return all(stat.rpartition(")")[2].split()[0] == "T" for stat in stats)


class Workshop:
    """One laboratory's directory, named after its owner, and a record of its processes.

    The kernel kills the processes when their parent's thread dies. `sweep` removes those that
    survive even that. Only the thread that made the workshop uses it, and that thread must outlive
    it.
    """

    def __init__(self) -> None:
        sweep()
        pid = os.getpid()
        name = f"{PREFIX}{pid}-{started(pid)}-{secrets.token_hex(4)}"
        self.path = Path(tempfile.gettempdir(), name)
        self.path.mkdir(mode=0o700)
        self._children: list[subprocess.Popen[bytes]] = []
        atexit.register(self.close)

    def start(self, *command: str, pass_fds: tuple[int, ...] = ()) -> subprocess.Popen[bytes]:
        """Start a program in the calling thread's namespaces.

        Its complaints go to the file ``stderr``.
        """
        with (self.path / "stderr").open("ab") as complaints:
            child = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=complaints,
                pass_fds=pass_fds,
                cwd=self.path,
            )
        self._children.append(child)
        with (self.path / "children").open("a", encoding="ascii") as record:
            record.write(f"{child.pid} {started(child.pid)}\n")
        return child

    def start_python(
        self, program: str, *arguments: str, pass_fds: tuple[int, ...] = ()
    ) -> subprocess.Popen[bytes]:
        """Start one of this directory's programs, which need the standard library only."""
        return self.start(
            sys.executable, "-S", "-E", str(HERE / program), *arguments, pass_fds=pass_fds
        )

    def close(self) -> None:
        """End the processes and remove the directory; idempotent."""
        atexit.unregister(self.close)
        for child in self._children:
            child.kill()  # ends stopped ones too
        for child in self._children:
            child.wait(PATIENCE)
        self._children.clear()
        shutil.rmtree(self.path, ignore_errors=True)


def sweep() -> int:
    """Remove the leftovers of our killed runs, and nothing else.

    Return the number of laboratories that they belonged to.
    """
    swept = 0
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        owner = _owner(path.name)
        if owner is None or is_alive(*owner):
            continue
        with contextlib.suppress(OSError):
            for line in (path / "children").read_text(encoding="ascii").splitlines():
                pid, _, since = line.partition(" ")
                if since.isdigit() and is_alive(int(pid), int(since)):
                    os.kill(int(pid), signal.SIGKILL)
        shutil.rmtree(path, ignore_errors=True)
        swept += 1
    return swept


def _owner(name: str) -> tuple[int, int] | None:
    pid, _, rest = name.removeprefix(PREFIX).partition("-")
    since = rest.partition("-")[0]
    return (int(pid), int(since)) if pid.isdigit() and since.isdigit() else None
