"""Socket options of ours and of the caller: the kernel may refuse only ours."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable

__all__ = ["OwnOption", "SocketOption", "callers", "own", "set_own"]

SocketOption = tuple[int, int, "int | bytes"]


class OwnOption(tuple[int, int, "int | bytes"]):
    """A socket option of ours, equal to the plain tuple; skipped if the kernel refuses it.

    WSL 1, gVisor and some emulators lack TCP_USER_TIMEOUT or the times of keep-alive. A call
    without these options is better than no call.
    """

    __slots__ = ()


def own(options: Iterable[SocketOption], others: Iterable[SocketOption]) -> list[SocketOption]:
    """Return ``options``, each marked as ours unless it is among ``others``."""
    known = list(others)
    return [each if each in known else OwnOption(each) for each in options]


def callers(options: Iterable[SocketOption] | None) -> list[SocketOption] | None:
    """Return the options that are not ours; None stays None, which sets no option at all."""
    if options is None:
        return None
    return [each for each in options if not isinstance(each, OwnOption)]


def set_own(sock: socket.socket, options: Iterable[SocketOption] | None) -> None:
    """Set the options that are ours, as far as the kernel accepts them."""
    for option in options or ():
        if isinstance(option, OwnOption):
            with suppress(OSError):
                sock.setsockopt(*option)
