"""The chain of exceptions behind an error, through each kind of link that the libraries use."""

from __future__ import annotations

import errno
import socket
import ssl
from typing import TYPE_CHECKING

from resilient_requests.exceptions import StreamIdle

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["causes", "describe", "errno_in", "errno_of", "foreign_in", "name_of"]

# The errors of a non-blocking socket that has nothing to do: no failure, so no errno to report.
_SILENT = frozenset({errno.EAGAIN, errno.EWOULDBLOCK})

# Packages that raise the transport's errors. gevent and eventlet replace the socket module; a mock
# stands for a part of the transport, and raises the error of its test.
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
        "mock",
        "requests",
        "resilient_requests",
        "socket",
        "socks",
        "ssl",
        "unittest",
        "urllib3",
    }
)


# In these a greenlet waits, and other code may throw any exception into it.
_SWITCHING = frozenset({"eventlet", "gevent"})


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and every exception that it names as a reason, each once.

    requests, urllib3 and PySocks spread the links over ``args``, ``reason``, ``socket_err`` and
    ``__cause__``. ``__context__`` is left out: it may lead to an unrelated exception that the
    caller was handling when it made the call.
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
    """Return the system's error number from a chain of `causes`; None without one."""
    return errno_in(causes(error))


def errno_in(chain: Iterable[BaseException]) -> int | None:
    """Return the first of the system's error numbers among ``chain``; None without one."""
    for each in chain:
        # gaierror and SSLError use the same attribute for the codes of getaddrinfo and OpenSSL.
        has_own = isinstance(each, (socket.gaierror, ssl.SSLError))
        if isinstance(each, OSError) and not has_own and each.errno and each.errno not in _SILENT:
            return each.errno
    return None


def describe(error: BaseException, number: int | None = None) -> str:
    """Return an exception as text for logs: its class and the name of its errno.

    The message is left out, since it may hold a URL. ``number`` is the errno if it is known
    already.
    """
    number = number or errno_of(error)
    name = name_of(error)
    return name if number is None else f"{name}({errno.errorcode.get(number, number)})"


def name_of(error: BaseException) -> str:
    """Return the class of an exception as documentation names it."""
    # Requests' own loops raise a subclass that is not public.
    return StreamIdle.__name__ if isinstance(error, StreamIdle) else type(error).__name__


def foreign_in(error: BaseException, roots: frozenset[str] = frozenset()) -> BaseException | None:
    """Return the caller's own exception from a chain; None if all are the transport's.

    A signal handler, a greenlet's timeout or a trace function may raise inside a wait of ours.
    urllib3 wraps such an exception if it looks like a socket's. ``roots``: further packages that
    raise the transport's errors.
    """
    known = _TRANSPORT | roots
    # urllib3 wraps a caller's exception only if it is an OSError. A cause of another class belongs
    # to another package, such as a decoder.
    candidates = (each for each in causes(error) if each is error or isinstance(each, OSError))
    return next((each for each in candidates if _is_foreign(each, known)), None)


def _is_foreign(error: BaseException, known: frozenset[str]) -> bool:
    kind = type(error)
    root = kind.__module__.partition(".")[0]
    if root not in ("builtins", "requests"):
        return root not in known
    # The caller's code may raise these classes too: the innermost frame tells them apart.
    is_common = isinstance(error, (OSError, EOFError, ValueError))
    return not is_common or not _is_raised_in(error, known)


def _is_raised_in(error: BaseException, known: frozenset[str]) -> bool:
    innermost = error.__traceback__
    if innermost is None:
        return True  # never raised: the transport made it as the reason of another error
    while innermost.tb_next is not None:
        innermost = innermost.tb_next
    name: str = innermost.tb_frame.f_globals.get("__name__", "")
    root = name.partition(".")[0]
    return root in known and (root not in _SWITCHING or _is_of_green_socket(error))


def _is_of_green_socket(error: BaseException) -> bool:
    """Return False for an error that other code has thrown into a greenlet, as a timer does.

    It appears inside gevent, at the place where the greenlet waits.
    """
    if not isinstance(error, OSError):
        return True
    is_builtin = type(error).__module__ == "builtins"
    return is_builtin and (error.errno is not None or "timed out" in str(error))
