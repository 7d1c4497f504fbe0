"""requests with a timeout, as everybody should call it.

Its sockets then wait by poll, which also costs time.
"""

from __future__ import annotations

from benchmarks.contenders import plain
from benchmarks.contenders._contender import BODY, HEADERS

__all__ = ["Contender"]


class Contender(plain.Contender):
    """Sets a timeout, as our adapter does."""

    def post(self, path: str) -> None:
        response = self.session.post(
            self.upstream.url(path), json=BODY, headers=HEADERS, timeout=(10, 600)
        )
        assert response.content
