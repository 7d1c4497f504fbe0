"""An exception and all that stand behind it, however the libraries below have linked them."""

from __future__ import annotations

import errno
import socket
import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["causes", "describe", "errno_in", "errno_of"]


def causes(error: BaseException, handled: BaseException | None = None) -> Iterator[BaseException]:
    """Yield an exception and all that stand behind it, each once.

    requests and urllib3 spread the links over ``args``, ``reason``, ``__cause__`` and ``__context__``. ``handled`` is
    what the caller was handling at the time: Python makes it a context, too, and it is another story.
    """
    seen = {id(handled)}
    queue: list[object] = [error]
    while queue:
        each = queue.pop(0)
        if not isinstance(each, BaseException) or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        queue += [*each.args, getattr(each, "reason", None), each.__cause__, each.__context__]


# What a socket without a timeout of its own says when there is nothing to do.
_NO_FAILURES = frozenset({errno.EAGAIN, errno.EWOULDBLOCK})


def errno_of(error: BaseException, handled: BaseException | None = None) -> int | None:
    """Return the system's error number from anywhere behind an exception, None where there is none; see `causes`."""
    return errno_in(causes(error, handled))


def errno_in(chain: Iterable[BaseException]) -> int | None:
    for each in chain:
        # gaierror and SSLError keep numbers of their own in the same attribute.
        has_own = isinstance(each, (socket.gaierror, ssl.SSLError))
        if (
            isinstance(each, OSError)
            and not has_own
            and each.errno
            and each.errno not in _NO_FAILURES
        ):
            return each.errno
    return None


def describe(error: BaseException, handled: BaseException | None = None) -> str:
    """Return an exception as text for logs: the class and the errno's name, no message (it may hold a URL)."""
    number = errno_of(error, handled)
    name = type(error).__name__
    return name if number is None else f"{name}({errno.errorcode.get(number, number)})"
