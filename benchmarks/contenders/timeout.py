"""requests with a timeout, as everybody should call it: sockets then wait by poll, which costs, too."""

from __future__ import annotations

from benchmarks.contenders import plain
from benchmarks.contenders._contender import BODY, HEADERS

__all__ = ["Contender"]


class Contender(plain.Contender):
    """What our adapter does, too."""

    def post(self, path: str) -> None:
        response = self.session.post(
            self.upstream.url(path), json=BODY, headers=HEADERS, timeout=(10, 600)
        )
        assert response.content
