"""Prints an answer as it arrives, and on stderr how it ended, which is also the exit code."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import requests

from resilient_requests.call import boot
from resilient_requests.chat import Usage, stream_chat
from resilient_requests.cli._words import in_words
from resilient_requests.exceptions import ChatAPIError, StreamError, StreamIdle, StreamTruncated

if TYPE_CHECKING:
    from resilient_requests.chat import ChatCompletion, ChatStream
    from resilient_requests.cli.chat._question import Question
    from resilient_requests.cli.chat._trace import Trace

__all__ = ["show"]

_COMPLETE, _IDLE, _BROKEN, _PROVIDER, _NO_CONNECTION = 0, 3, 4, 5, 6

# The first that fits. A read timeout is silence before the answer; it is no ConnectTimeout, which is a ConnectionError.
_CODES: tuple[tuple[type[BaseException], int], ...] = (
    (StreamIdle, _IDLE),
    (StreamError, _BROKEN),
    (ChatAPIError, _PROVIDER),
    (requests.HTTPError, _PROVIDER),
    (requests.TooManyRedirects, _PROVIDER),
    (requests.ReadTimeout, _IDLE),
    (requests.ConnectionError, _NO_CONNECTION),
    (requests.RequestException, _BROKEN),
)

# On a terminal an answer could move the cursor, or worse.
_CONTROL = {code: "\ufffd" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


def show(session: requests.Session, url: str, question: Question, trace: Trace) -> int:
    """Ask, print the answer and its end, and return the exit code. Raises KeyboardInterrupt, once both are closed."""
    told = _Told(trace)
    try:
        with _open(session, url, question) as stream:
            try:
                for text in stream.iter_text():
                    told.write(text)
            finally:
                told.completion = stream.completion
        told.end(
            told.completion.finish_reason
            or ("bare end" if told.completion.truncated else "complete")
        )
    except requests.RequestException as error:
        told.attempts = len(getattr(error, "attempts", ()))
        told.end(type(error).__name__, _why(error))
        return next(code for kind, code in _CODES if isinstance(error, kind))
    except KeyboardInterrupt:
        told.end("interrupted")
        raise
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
    except OSError as error:
        if isinstance(error, requests.RequestException):
            raise
        # A file of certificates that is not there: requests raises a bare OSError for it.
        raise requests.ConnectionError(str(error)) from error


def _why(error: requests.RequestException) -> str:
    """Return an error in one line, with the option that may help; the library's own words name its parameters."""
    if isinstance(error, StreamIdle):
        return f"StreamIdle: no byte for {error.idle_timeout or 0:g} s within the answer (--idle sets the limit)"
    if isinstance(error, requests.ReadTimeout):
        return f"{in_words(error)} (--idle sets the limit)"
    if isinstance(error, StreamTruncated):
        end = "the answer ended cleanly, but without the sign that it is complete"
        return f"StreamTruncated: {end} (--accept-bare-eof takes such an end for a good one)"
    return in_words(error)


class _Told:
    """What has been printed so far, and what is to be said at the end."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self.completion: ChatCompletion | None = None
        self.attempts = 0
        self._since = boot()
        self._is_watched = sys.stdout.isatty()
        self._last = "\n"

    def write(self, text: str) -> None:
        """Print a piece of the answer at once; what stdout cannot encode becomes a question mark."""
        self._last = text
        encoding = sys.stdout.encoding or "utf-8"
        text = text.encode(encoding, "replace").decode(encoding)
        sys.stdout.write(text.translate(_CONTROL) if self._is_watched else text)
        sys.stdout.flush()

    def end(self, how: str, why: str = "") -> None:
        """Print why it ended, where there is more to say than how, and the line with the figures, which is the last."""
        if self._is_watched and not self._last.endswith("\n"):
            print(flush=True)  # a pipe gets the answer and nothing else
        self._trace.close()
        if why:
            print(f"resilient-requests chat: {why}", file=sys.stderr)
        found = self.completion
        usage = (None if found is None else found.usage) or Usage()
        attempts = self.attempts or (1 if found is None else len(found.attempts))
        columns = (
            f"[{how}]",
            f"{_count(usage.input_tokens)} in, {_count(usage.output_tokens)} out",
            f"{attempts} attempt{'' if attempts == 1 else 's'}",
            f"{boot() - self._since:.1f} s",
        )
        print("  ".join(columns), file=sys.stderr, flush=True)


def _count(tokens: int | None) -> str:
    return "?" if tokens is None else str(tokens)
