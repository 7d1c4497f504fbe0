"""The origin of a URL, or of a pool: scheme, host and port."""

from __future__ import annotations

import re
from typing import NamedTuple

from urllib3.connection import port_by_scheme

__all__ = ["Origin", "up_to_authority"]

# A query or a fragment may stand right behind the host (RFC 3986 3.2), and requests adds no slash to a Location.
_UP_TO_AUTHORITY = re.compile("[^:/?#]*://[^/?#]*")


class Origin(NamedTuple):
    """Where requests, or the connections of a pool, go; prints as "scheme://host:port"."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @classmethod
    def of(cls, url: str) -> Origin:
        """Return the origin of a prepared URL, without its credentials; for budgets and events."""
        scheme, _, authority = up_to_authority(url).partition("://")
        scheme, authority = scheme.lower(), authority.rpartition("@")[2].lower()
        host, colon, port = authority.rpartition(":")
        if not colon or not port.isdigit():
            host, port = authority.removesuffix(":"), ""
        return cls(scheme, host.strip("[]"), int(port[:5] or port_by_scheme.get(scheme, 0)))


def up_to_authority(url: str) -> str:
    """Return the part of a URL that decides where it leads; all of one that has no authority."""
    match = _UP_TO_AUTHORITY.match(url)
    return url if match is None else match[0]
