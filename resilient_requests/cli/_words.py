"""Errors in one line for people."""

from __future__ import annotations

import re

import requests

from resilient_requests.call import causes, describe

__all__ = ["in_words"]

_USERINFO = re.compile(r"//[^/\s]*@")
_QUERY = re.compile(r"\?[^\s'\")]+")
_LONGEST = 300


def in_words(error: BaseException) -> str:
    """Return an error in one line: its class, the errno's name and the system's words; no credentials, no query."""
    for each in causes(error):
        # The words of a failed dial or handshake stand in the last OSError of the chain.
        if (
            isinstance(each, OSError)
            and each.strerror
            and not isinstance(each, requests.RequestException)
        ):
            return f"{describe(each)}: {each.strerror}"
    if isinstance(error, requests.exceptions.InvalidURL):
        # Its text repeats what could not be parsed, and where a password ends in there, nobody knows.
        return f"{describe(error)}: a URL, of a server or a proxy, that is none"
    text = _USERINFO.sub("//", str(error)).splitlines() or [""]
    return f"{describe(error)}: {_QUERY.sub('?…', text[0])[:_LONGEST]}"
