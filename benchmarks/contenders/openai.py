"""The OpenAI SDK, without retries."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

import openai

from benchmarks.contenders._contender import BODY, Upstream
from benchmarks.contenders._contender import Contender as _Contender

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Contender"]


class Contender(_Contender):
    """One client for everything."""

    def __init__(self, upstream: Upstream) -> None:
        super().__init__(upstream)
        context = ssl.create_default_context(cafile=upstream.bundle or None)
        http = openai.DefaultHttpxClient(verify=context)
        self.client = openai.OpenAI(
            api_key="sk-0123456789", max_retries=0, http_client=http, base_url="http://unset"
        )

    def post(self, path: str) -> None:
        body: Any = {key: value for key, value in BODY.items() if not key.startswith("stream")}
        assert self._at(path).chat.completions.create(**body)

    def events(self, path: str) -> Iterator[Any]:
        body: Any = BODY
        yield from self._at(path).chat.completions.create(**body)

    def created(self, chunk: Any) -> int:
        stamp: int = chunk.created
        return stamp

    def chat(self, path: str) -> Iterator[Any]:
        return self.events(path)

    def _at(self, path: str) -> openai.OpenAI:
        self.client.base_url = self.upstream.url(path)
        return self.client
