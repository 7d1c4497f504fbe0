"""niquests with its own server-sent events."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import niquests

from benchmarks.contenders._contender import BODY, DONE, HEADERS, Upstream
from benchmarks.contenders._contender import Contender as _Contender

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Contender"]


class Contender(_Contender):
    """One session for everything."""

    def __init__(self, upstream: Upstream) -> None:
        super().__init__(upstream)
        self.session = niquests.Session()
        self.session.verify = upstream.verify

    def post(self, path: str) -> None:
        assert self.session.post(self.upstream.url(path), json=BODY, headers=HEADERS).content

    def events(self, path: str) -> Iterator[Any]:
        response = self.session.post(
            self.upstream.url(path), json=BODY, headers=HEADERS, stream=True
        )
        for line in response.iter_lines():
            if line.startswith(b"data: ") and line[6:] != DONE.encode():
                yield json.loads(line[6:])

    def chat(self, path: str) -> Iterator[Any]:
        return self.events(path)
