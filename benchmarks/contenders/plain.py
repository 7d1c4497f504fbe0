"""requests with its own HTTPAdapter, and iter_lines as everybody writes it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import requests

from benchmarks.contenders._contender import BODY, DONE, HEADERS, Upstream
from benchmarks.contenders._contender import Contender as _Contender

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Contender"]


class Contender(_Contender):
    """One session for everything."""

    def __init__(self, upstream: Upstream) -> None:
        super().__init__(upstream)
        self.session = self.make_session()
        self.session.verify = upstream.verify

    def make_session(self) -> requests.Session:
        """Return the session, with the adapter of this contender mounted on it."""
        return requests.Session()

    def post(self, path: str) -> None:
        response = self.session.post(self.upstream.url(path), json=BODY, headers=HEADERS)
        assert response.content

    def function(self, path: str) -> None:
        url, verify = self.upstream.url(path), self.upstream.verify
        assert requests.post(url, json=BODY, headers=HEADERS, verify=verify).content

    def events(self, path: str) -> Iterator[Any]:
        for line in self.lines(path):
            if line.startswith(b"data: ") and line[6:] != DONE.encode():
                yield json.loads(line[6:])

    def lines(self, path: str) -> Iterator[bytes]:
        yield from self.stream(path).iter_lines()

    def chat(self, path: str) -> Iterator[Any]:
        for line in self.lines(path):
            if line == b"data: [DONE]":
                break
            yield line

    def stream(self, path: str) -> requests.Response:
        """Post `BODY`; return the response, not read yet."""
        return self.session.post(self.upstream.url(path), json=BODY, headers=HEADERS, stream=True)
