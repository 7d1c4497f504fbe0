"""The errors that end a body: our own for our readers, requests' own for its loops."""

from __future__ import annotations

import http.client
import ssl
from typing import Any

import requests
import urllib3.exceptions

from resilient_requests.call import errno_of
from resilient_requests.exceptions import (
    LoopIdle,
    StreamBroken,
    StreamIdle,
    StreamProtocolError,
    counted,
)
from resilient_requests.stream._framing import ChunkedError

__all__ = ["BROKEN", "LOOP_ERRORS", "READER_ERRORS", "ReaderErrors"]

BROKEN = (OSError, http.client.HTTPException, urllib3.exceptions.HTTPError, ssl.SSLError)
"""Errors after which the connection of a body is of no use."""


class ReaderErrors:
    """The errors of our own readers. ``facts`` are the arguments that each of them takes."""

    def named(self, error: Exception, idle: float | None, facts: dict[str, Any]) -> Exception:
        """Return our error for an error of a body, or that error itself if we have none for it."""
        is_timeout = isinstance(error, (TimeoutError, urllib3.exceptions.ReadTimeoutError))
        if is_timeout and errno_of(error) is None:
            return self._idle(idle, facts)
        if isinstance(error, urllib3.exceptions.DecodeError):
            return self._undecodable(error, facts)
        if isinstance(error, BROKEN) and not isinstance(error, requests.RequestException):
            return self._broken(error, facts)
        return error

    def _idle(self, idle: float | None, facts: dict[str, Any]) -> Exception:
        return StreamIdle(clock="bytes", idle_timeout=idle, **facts)

    def _undecodable(self, error: Exception, facts: dict[str, Any]) -> Exception:
        why = error.args[0] if error.args else error
        return StreamProtocolError(f"the body does not match its Content-Encoding: {why}", **facts)

    def _broken(self, error: Exception, facts: dict[str, Any]) -> Exception:
        received = counted(facts["bytes_received"], "byte")
        if isinstance(error.__cause__, ChunkedError):
            why = f"the framing of the body is malformed after {received} of it: {error.__cause__}"
            return StreamBroken(why, **facts)
        return StreamBroken(f"the connection was lost after {received} of the body", **facts)


class _LoopErrors(ReaderErrors):
    """The errors of requests' own loops: code that resumes downloads tests classes and texts."""

    def _idle(self, idle: float | None, facts: dict[str, Any]) -> Exception:
        # The pool appears in urllib3's text, for people to read.
        pool: Any = getattr(facts["response"].raw, "_pool", None)
        silent = urllib3.exceptions.ReadTimeoutError(pool, "", "Read timed out.")
        return LoopIdle(silent, idle_timeout=idle, **facts)

    def _undecodable(self, error: Exception, facts: dict[str, Any]) -> Exception:  # noqa: ARG002
        return requests.exceptions.ContentDecodingError(error)

    def _broken(self, error: Exception, facts: dict[str, Any]) -> Exception:
        return StreamBroken(_as_urllib3(error, facts["bytes_received"]), **facts)


READER_ERRORS, LOOP_ERRORS = ReaderErrors(), _LoopErrors()


def _as_urllib3(error: Exception, received: int) -> urllib3.exceptions.ProtocolError:
    if isinstance(error, urllib3.exceptions.ProtocolError):
        return error
    if isinstance(error, http.client.IncompleteRead):
        if error.expected is None:
            return urllib3.exceptions.ProtocolError("Response ended prematurely")
        error = urllib3.exceptions.IncompleteRead(received, error.expected)
    return urllib3.exceptions.ProtocolError(f"Connection broken: {error!r}", error)
