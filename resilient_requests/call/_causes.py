"""An exception and all that stand behind it, however the libraries below have linked them."""

from __future__ import annotations

import errno
import socket
import ssl
from typing import TYPE_CHECKING

from resilient_requests.exceptions import StreamIdle

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["causes", "describe", "errno_in", "errno_of", "foreign_in", "name_of"]

# What a socket without a timeout of its own says when there is nothing to do.
_SILENT = frozenset({errno.EAGAIN, errno.EWOULDBLOCK})

# The packages whose errors are the transport's. gevent and eventlet stand in for the socket module.
_TRANSPORT = frozenset(
    {
        "OpenSSL",
        "_socket",
        "_ssl",
        "asyncio",
        "encodings",
        "eventlet",
        "gevent",
        "http",
        "requests",
        "resilient_requests",
        "socket",
        "socks",
        "ssl",
        "urllib3",
    }
)


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and all that it names as its reason, each once.

    requests, urllib3 and PySocks spread the links over ``args``, ``reason``, ``socket_err`` and
    ``__cause__``. ``__context__`` is left out: it may lead to an exception that the caller was
    handling, which is another story.
    """
    seen: set[int] = set()
    queue: list[object] = [error]
    while queue:
        each = queue.pop(0)
        if isinstance(each, BaseException) and id(each) not in seen:
            seen.add(id(each))
            yield each
            named = (getattr(each, name, None) for name in ("reason", "socket_err", "__cause__"))
            queue += [*each.args, *named]


def errno_of(error: BaseException) -> int | None:
    """Return the system's error number from anywhere behind an exception; None where there is none."""
    return errno_in(causes(error))


def errno_in(chain: Iterable[BaseException]) -> int | None:
    """Return the first of the system's error numbers in a chain of `causes`."""
    for each in chain:
        # gaierror and SSLError keep numbers of their own in the same attribute.
        has_own = isinstance(each, (socket.gaierror, ssl.SSLError))
        if isinstance(each, OSError) and not has_own and each.errno and each.errno not in _SILENT:
            return each.errno
    return None


def describe(error: BaseException, number: int | None = None) -> str:
    """Return an exception as text for logs: the class and the errno's name, no message (it may hold a URL).

    ``number``: the errno, where it is known already.
    """
    number = number or errno_of(error)
    name = name_of(error)
    return name if number is None else f"{name}({errno.errorcode.get(number, number)})"


def name_of(error: BaseException) -> str:
    """Return the class of an exception as documentation names it."""
    # In requests' own loops it is of a class that is more besides.
    return StreamIdle.__name__ if isinstance(error, StreamIdle) else type(error).__name__


def foreign_in(error: BaseException, roots: frozenset[str] = frozenset()) -> BaseException | None:
    """Return the exception in a chain that is not the transport's but the caller's own; None without one.

    The caller's are a signal handler's, a greenlet's timeout, a trace function's. They come up
    inside a wait of ours, and urllib3 wraps those that look like a socket's. ``roots``: further
    packages whose errors are the transport's.
    """
    known = _TRANSPORT | roots
    # An OSError alone is wrapped. Other causes are of other packages, such as a decoder's.
    candidates = (each for each in causes(error) if each is error or isinstance(each, OSError))
    return next((each for each in candidates if _is_foreign(each, known)), None)


def _is_foreign(error: BaseException, known: frozenset[str]) -> bool:
    kind = type(error)
    root = kind.__module__.partition(".")[0]
    if root not in ("builtins", "requests"):
        return root not in known
    # A signal handler raises these too: they are the transport's only where that has raised them.
    is_common = isinstance(error, (OSError, EOFError, ValueError))
    return not is_common or not _is_raised_in(error, known)


def _is_raised_in(error: BaseException, known: frozenset[str]) -> bool:
    innermost = error.__traceback__
    if innermost is None:
        return True  # made by the transport, and only named as a reason
    while innermost.tb_next is not None:
        innermost = innermost.tb_next
    name: str = innermost.tb_frame.f_globals.get("__name__", "")
    return name.partition(".")[0] in known
