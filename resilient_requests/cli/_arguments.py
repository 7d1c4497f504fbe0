"""The types of arguments that several commands share: seconds, a header, a URL."""

from __future__ import annotations

import argparse
import math
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import requests

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["UsageError", "header", "host_of", "seconds", "web_url"]

_SCHEME = re.compile(r"\s*[a-z][a-z0-9+.-]*://", re.IGNORECASE)  # RFC 3986 3.1
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 5.6.2: the name of a field
# RFC 9112 6: these fields announce a body, and the commands send none.
_FRAMING = frozenset({"content-length", "transfer-encoding"})


class UsageError(ValueError):
    """A command cannot work with its command line, or with the environment."""


def seconds(longest: float) -> Callable[[str], float]:
    """Return a type for argparse: seconds above 0, at most ``longest``."""

    def seconds(text: str) -> float:
        value = float(text)
        if not (math.isfinite(value) and 0 < value <= longest):
            raise argparse.ArgumentTypeError(
                f"must be seconds above 0, at most {longest:g}, not {text!r}"
            )
        return value

    return seconds


def header(text: str) -> tuple[str, str]:
    """Return the name and the value of a header; a type for argparse.

    Its errors do not repeat the value, which may be a key.
    """
    name, colon, value = (part.strip() for part in text.partition(":"))
    if not colon or not _TOKEN.fullmatch(name):
        raise argparse.ArgumentTypeError("must be NAME: VALUE")
    if not (value.isascii() and value.isprintable()):
        raise argparse.ArgumentTypeError(f"{name} holds characters that no header can carry")
    if name.lower() in _FRAMING:
        raise argparse.ArgumentTypeError(f"{name} announces a body, and none is sent")
    return name, value


def web_url(url: str, *, default_scheme: str = "") -> str:
    """Return a URL in the form that requests sends.

    ``default_scheme``: the scheme for a URL without one. Raises UsageError for a URL that no
    request can go to. The message does not repeat the URL, which may hold a password.
    """
    if default_scheme and not _SCHEME.match(url):
        url = f"{default_scheme}://{url}"
    try:
        found = requests.Request("GET", url).prepare().url or ""
        host = urlsplit(found).hostname or ""
        # urllib3 encodes it too, but only when it dials.
        host.encode("idna")
    except requests.exceptions.MissingSchema:
        found = host = ""
    except (requests.RequestException, ValueError):
        raise UsageError("InvalidURL: the URL cannot be parsed") from None
    if not found.startswith(("http://", "https://")):
        raise UsageError("the URL must begin with http:// or https://")
    if "%" in host and ":" not in host:
        # Some versions of urllib3 let a quoted blank through. In IPv6 a zone follows the "%".
        raise UsageError("InvalidURL: the host's name holds characters that no name has")
    return found


def host_of(url: str) -> str:
    """Return the host of a URL, with its port where one is given, without credentials."""
    return urlsplit(url).netloc.rpartition("@")[2]
