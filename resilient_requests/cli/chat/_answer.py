"""Prints an answer as it arrives, each attempt that it took, and how it ended."""

from __future__ import annotations

import errno
import sys
from typing import TYPE_CHECKING, Any, TextIO

import requests

from resilient_requests.call import (
    AttemptFailed,
    AttemptStarted,
    AttemptSucceeded,
    ConnectionOpened,
    RetryDenied,
    RetryScheduled,
    StreamEnded,
    now,
)
from resilient_requests.chat import Usage, stream_chat
from resilient_requests.cli._arguments import host_of
from resilient_requests.cli._output import in_words
from resilient_requests.cli.chat._question import BadRedirect
from resilient_requests.exceptions import (
    ChatAPIError,
    StreamError,
    StreamIdle,
    StreamTruncated,
    counted,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from resilient_requests.chat import ChatCompletion, ChatStream
    from resilient_requests.cli.chat._question import Question

__all__ = ["Trace", "show"]

# The URLs of the command and of redirects were checked before: only a proxy's can be bad here.
_BadProxy = requests.exceptions.InvalidURL

_COMPLETE, _IDLE, _BROKEN, _PROVIDER, _NO_CONNECTION = 0, 3, 4, 5, 6

# The first match decides. A read timeout is silence before the answer; a ConnectTimeout is a
# ConnectionError.
_CODES: tuple[tuple[type[BaseException], int], ...] = (
    (StreamIdle, _IDLE),
    (StreamError, _BROKEN),
    (ChatAPIError, _PROVIDER),
    (requests.HTTPError, _PROVIDER),
    (requests.TooManyRedirects, _PROVIDER),
    (BadRedirect, _PROVIDER),
    (_BadProxy, _NO_CONNECTION),
    (requests.ReadTimeout, _IDLE),
    (requests.ConnectionError, _NO_CONNECTION),
    (requests.RequestException, _BROKEN),
)

# On a terminal, control characters of an answer could move the cursor, or worse.
_CONTROL = {code: "\ufffd" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


def show(session: requests.Session, url: str, question: Question, trace: Trace) -> int:
    """Ask, print the answer and its end, and return the exit code.

    Raises KeyboardInterrupt after Ctrl-C, when the stream is closed.
    """
    told = _Told(trace)
    found: ChatCompletion | None = None
    try:
        with _open(session, url, question) as stream:
            try:
                for text in stream.iter_text():
                    told.write(text)
            finally:
                found = stream.completion
    except requests.RequestException as error:
        why = f"{_host(error, url)}: {_why(error)}"
        told.end(type(error).__name__, found, why, len(getattr(error, "attempts", ())))
        return next(code for kind, code in _CODES if isinstance(error, kind))
    except KeyboardInterrupt:
        told.end("interrupted", found)
        raise
    told.end(found.finish_reason or ("bare end" if found.truncated else "complete"), found)
    return _COMPLETE


def _open(session: requests.Session, url: str, question: Question) -> ChatStream:
    try:
        return stream_chat(
            session,
            url,
            model=question.model,
            messages=question.messages,
            dialect=question.dialect,
            accept_bare_eof=question.accept_bare_eof,
            **question.more,
        )
    except requests.RequestException:
        raise
    except OSError as error:
        # requests raises a bare OSError for a missing file of certificates.
        raise requests.ConnectionError(str(error)) from error
    except ValueError as error:
        # requests lets urllib3's parser errors for an odd proxy pass, and their text holds the URL.
        raise _BadProxy from error


def _host(error: requests.RequestException, url: str) -> str:
    """Return the host of an error's request: after a redirect it is not the first host."""
    asked = error.request if error.response is None else error.response.request
    host = host_of(getattr(asked, "url", None) or url)
    is_of_proxy = isinstance(error, (requests.exceptions.ProxyError, _BadProxy))
    return f"{host} through a proxy" if is_of_proxy else host


def _why(error: requests.RequestException) -> str:
    """Return an error in one line, with the option of this command that may help."""
    if isinstance(error, StreamIdle):
        silence = f"no byte for {error.idle_timeout or 0:g} s within the answer"
        return f"StreamIdle: {silence} (--idle sets the limit)"
    if isinstance(error, requests.ReadTimeout):
        return f"{in_words(error)} (--idle sets the limit)"
    if isinstance(error, StreamTruncated):
        end = "the answer ended cleanly, but without the sign that it is complete"
        return f"StreamTruncated: {end} (--accept-bare-eof accepts such an end)"
    return in_words(error)


class _Told:
    """Prints the answer and its end; used by one thread."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._since = now().boot
        self._is_watched = sys.stdout.isatty()
        self._last = "\n"

    def write(self, text: str) -> None:
        """Print a piece of the answer at once; "?" stands for a character unknown to stdout."""
        self._last = text
        encoding = sys.stdout.encoding or "utf-8"
        text = text.encode(encoding, "replace").decode(encoding)
        sys.stdout.write(text.translate(_CONTROL) if self._is_watched else text)
        sys.stdout.flush()

    def end(self, how: str, found: ChatCompletion | None, why: str = "", attempts: int = 0) -> None:
        """Print the reason of the end if there is more to say, then the line of figures."""
        if self._is_watched and not self._last.endswith("\n"):
            print(flush=True)  # nothing but the answer may reach a pipe
        self._trace.close()
        if why:
            print(f"resilient-requests chat: {why}", file=sys.stderr)
        usage = (None if found is None else found.usage) or Usage()
        attempts = attempts or (1 if found is None else len(found.attempts))
        columns = (
            f"[{how}]",
            f"{_count(usage.input_tokens)} in, {_count(usage.output_tokens)} out",
            counted(attempts, "attempt"),
            f"{now().boot - self._since:.1f} s",
        )
        print("  ".join(columns), file=sys.stderr, flush=True)


def _count(tokens: int | None) -> str:
    return "?" if tokens is None else str(tokens)


class Trace:
    """An observer that prints each attempt of a POST; used by the one thread that asks."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._calls: set[str | None] = set()
        self._dialled: float | None = None  # seconds, of the attempt that is under way
        self._held: list[str] = []  # the columns of a line that is still incomplete
        self._on: dict[type, Callable[[Any], None]] = {
            AttemptStarted: self._started,
            ConnectionOpened: self._opened,
            AttemptFailed: self._failed,
            AttemptSucceeded: self._succeeded,
            StreamEnded: self._ended,
            RetryScheduled: self._scheduled,
            RetryDenied: self._denied,
        }

    def __call__(self, event: Any) -> None:
        """Take an event."""
        if isinstance(event, AttemptStarted) and event.method == "POST":
            self._calls.add(event.call_id)
        note = self._on.get(type(event))
        if note is not None and event.call_id in self._calls:
            note(event)

    def close(self) -> None:
        """Print the incomplete line."""
        if self._held:
            self._print("no replay" if self._held[0].startswith("stream") else "")

    def _started(self, _: AttemptStarted) -> None:
        self.close()
        self._dialled = None

    def _opened(self, event: ConnectionOpened) -> None:
        self._dialled = event.elapsed

    def _failed(self, event: AttemptFailed) -> None:
        name = event.error
        if event.errno is not None:
            name = errno.errorcode.get(event.errno, str(event.errno))
        facts = f"{name} in {event.phase} after {_s(event.elapsed)}"
        self._held = [f"attempt {event.attempt}", self._way(event), facts]

    def _succeeded(self, event: AttemptSucceeded) -> None:
        status = f", status {event.status}" if event.status >= 400 else ""
        self._print(
            f"attempt {event.attempt}", self._way(event), f"headers {_ms(event.elapsed)}{status}"
        )

    def _ended(self, event: StreamEnded) -> None:
        if event.error is not None:
            read = counted(event.bytes_received, "byte")
            facts = f"{event.error} after {read}, {counted(event.events_received, 'event')}"
            self._held = [f"stream {event.attempt}", facts, f"after {_s(event.elapsed)}"]

    def _scheduled(self, event: RetryScheduled) -> None:
        if self._held and self._held[0].startswith("stream"):
            why = "nothing was shown, "
        else:
            why = "stale reuse, " if event.reused and not event.wait else ""
        self._print(f"replay: {why}{f'in {_s(event.wait)}' if event.wait else 'at once'}")

    def _denied(self, event: RetryDenied) -> None:
        self._print(f"no replay: {event.reason}")

    def _way(self, event: AttemptFailed | AttemptSucceeded) -> str:
        if event.reused:
            return f"reused, idle {_s(event.idle_for or 0.0)}"
        return "not connected" if self._dialled is None else f"fresh, {_ms(self._dialled)}"

    def _print(self, *columns: str) -> None:
        first, *rest = (*self._held, *columns)
        self._held = []
        line = "  ".join([f"{first:<9}", *(f"{each:<21}" for each in rest)])
        print(line.rstrip(), file=self._out, flush=True)


def _s(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 0.1 else f"{seconds:.3f} s"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.01 else f"{seconds * 1000:.1f} ms"
