"""The origin of a URL, or of a pool: scheme, host and port."""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

from urllib3.connection import port_by_scheme

__all__ = ["Origin", "up_to_authority"]

# RFC 3986 3.2: a query or a fragment may follow the host at once. requests adds no slash to a
# Location that has none.
_UP_TO_AUTHORITY = re.compile("[^:/?#]*://[^/?#]*")


class Origin(NamedTuple):
    """The destination of requests, or of a pool; prints as "scheme://host:port"."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @staticmethod
    def of(url: str) -> Origin:
        """Return the origin of a prepared URL, without credentials; port 0 if it has none."""
        scheme, _, authority = up_to_authority(url).partition("://")
        return _parsed(scheme, authority.rpartition("@")[2])


def up_to_authority(url: str) -> str:
    """Return a URL up to the end of its authority; the whole of one that has no authority."""
    match = _UP_TO_AUTHORITY.match(url)
    return url if match is None else match[0]


# Each call asks for its origin, and most go to a few. No credentials come in here.
@functools.lru_cache(maxsize=256)
def _parsed(scheme: str, authority: str) -> Origin:
    scheme, authority = scheme.lower(), authority.lower()
    host, colon, port = authority.rpartition(":")
    if not colon or not port.isdigit():
        host, port = authority.removesuffix(":"), ""
    return Origin(scheme, host.strip("[]"), int(port[:5] or port_by_scheme.get(scheme, 0)))
