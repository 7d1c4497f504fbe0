"""httpx with httpx-sse."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

import httpx
import httpx_sse

from benchmarks.contenders._contender import BODY, DONE, HEADERS, Upstream
from benchmarks.contenders._contender import Contender as _Contender

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Contender"]


class Contender(_Contender):
    """One client for everything."""

    def __init__(self, upstream: Upstream) -> None:
        super().__init__(upstream)
        context = ssl.create_default_context(cafile=upstream.bundle or None)
        self.client = httpx.Client(
            verify=context, limits=httpx.Limits(max_connections=None), timeout=600
        )

    def post(self, path: str) -> None:
        assert self.client.post(self.upstream.url(path), json=BODY, headers=HEADERS).content

    def events(self, path: str) -> Iterator[Any]:
        with httpx_sse.connect_sse(
            self.client, "POST", self.upstream.url(path), json=BODY, headers=HEADERS
        ) as source:
            for event in source.iter_sse():
                if event.data != DONE:
                    yield event.json()

    def data(self, path: str) -> Iterator[Any]:
        with httpx_sse.connect_sse(
            self.client, "POST", self.upstream.url(path), json=BODY, headers=HEADERS
        ) as source:
            for event in source.iter_sse():
                yield event.data

    def chat(self, path: str) -> Iterator[Any]:
        with httpx_sse.connect_sse(
            self.client, "POST", self.upstream.url(path), json=BODY, headers=HEADERS
        ) as source:
            for event in source.iter_sse():
                if event.data == DONE:
                    break
                yield event
