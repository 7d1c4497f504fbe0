"""Errors of a dial at a limit of the machine: their text names the limit and its setting."""

from __future__ import annotations

import errno
import importlib
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

resource: Any = None
with suppress(ImportError):  # Windows lacks it
    resource = importlib.import_module("resource")

__all__ = ["explained"]

_PORT_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def explained(error: OSError, source_address: tuple[str, int] | None = None) -> OSError:
    """Return ``error``, or one of the same class and errno with a text that names the limit.

    ``source_address`` is the one that the socket was bound to; None if the kernel chose one.
    """
    hint = _hint(error.errno, source_address)
    if hint is None or error.errno is None:
        return error
    told = OSError(error.errno, f"{os.strerror(error.errno)}: {hint}")
    told.__traceback__ = error.__traceback__
    return told


def _hint(number: int | None, source_address: tuple[str, int] | None) -> str | None:
    if number == errno.EMFILE:
        return f"this process may have {_descriptors()} descriptors (ulimit -n)"
    if number == errno.ENFILE:
        return "the whole system has as many files open as it may (sysctl fs.file-max)"
    if number == errno.EADDRNOTAVAIL and source_address is not None:
        return f"the source_address {source_address[0]} is not one of this machine"
    if number == errno.EADDRNOTAVAIL:
        return (
            f"all local ports towards it are taken (sysctl net.ipv4.ip_local_port_range{_ports()}),"
            " or this machine has no address of that family"
        )
    return None


def _descriptors() -> str:
    if resource is None:
        return "no more"
    return f"at most {resource.getrlimit(resource.RLIMIT_NOFILE)[0]}"


def _ports() -> str:
    with suppress(OSError):
        return f" = {' '.join(_PORT_RANGE.read_text(encoding='ascii').split())}"
    return ""
