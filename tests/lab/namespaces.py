"""Network namespaces that live as long as somebody holds their descriptor."""

from __future__ import annotations

import ctypes
import os
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

CLONE_NEWNET = 0x4000_0000
CLONE_NEWTIME = 0x80
COMMAND_LIMIT = 10.0
"""Seconds that a tool such as ``ip`` or ``nft`` may take."""

# A namespace belongs to a thread, and /proc/self shows that of the main thread.
_OWN = "/proc/thread-self/ns/net"
_libc = ctypes.CDLL(None, use_errno=True)  # os.setns and os.unshare came with Python 3.12


def _checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def setns(fd: int, kind: int) -> None:
    """Move the calling thread, and no other, into the namespace."""
    _checked(_libc.setns(fd, kind), "setns")


def unshare(kind: int) -> None:
    """Give the calling thread a new namespace of that kind."""
    _checked(_libc.unshare(kind), "unshare")


class Namespace:
    """A network namespace without a name.

    The kernel removes it with its links once it is closed and unused, so a killed run leaves none
    behind. Any thread may enter it, several at a time.
    """

    def __init__(self) -> None:
        home = os.open(_OWN, os.O_RDONLY)
        try:
            unshare(CLONE_NEWNET)
            try:
                self.fd = os.open(_OWN, os.O_RDONLY)
            finally:
                setns(home, CLONE_NEWNET)
        finally:
            os.close(home)

    @property
    def path(self) -> str:
        """The path by which other programs find it, such as ``ip link ... netns``."""
        return f"/proc/{os.getpid()}/fd/{self.fd}"

    def close(self) -> None:
        """Let go of it; idempotent."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Put the calling thread inside.

        The sockets, threads and processes that it makes there belong there for good.
        """
        home = os.open(_OWN, os.O_RDONLY)
        try:
            setns(self.fd, CLONE_NEWNET)
            try:
                yield
            finally:
                setns(home, CLONE_NEWNET)
        finally:
            os.close(home)

    def run(self, *command: str, stdin: str = "") -> str:
        """Run a tool inside and return its output.

        A failure raises RuntimeError with the complaint of the tool.
        """
        with self.entered():
            done = subprocess.run(
                command,
                input=stdin,
                capture_output=True,
                text=True,
                timeout=COMMAND_LIMIT,
                check=False,
            )
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
        return done.stdout

    def set(self, **sysctls: str | int) -> None:
        """Write sysctls below ``net``; two underscores stand for a dot."""
        with self.entered():
            for name, value in sysctls.items():
                Path("/proc/sys/net", *name.split("__")).write_text(str(value), encoding="ascii")


def jump_boot_time(seconds: int) -> None:
    """Let CLOCK_BOOTTIME of this process jump forward, as after a suspend: the other clocks stay.

    The kernel allows it to a process of one thread only.
    """
    unshare(CLONE_NEWTIME)
    Path("/proc/self/timens_offsets").write_text(f"boottime {seconds} 0", encoding="ascii")
    fd = os.open("/proc/self/ns/time_for_children", os.O_RDONLY)
    try:
        setns(fd, CLONE_NEWTIME)
    finally:
        os.close(fd)
