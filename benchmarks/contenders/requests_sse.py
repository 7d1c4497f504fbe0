"""requests with requests-sse."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import requests_sse

from benchmarks.contenders import plain
from benchmarks.contenders._contender import BODY, DONE, HEADERS

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Contender"]


class Contender(plain.Contender):
    """Follows its documentation, without reconnecting."""

    def events(self, path: str) -> Iterator[Any]:
        source = requests_sse.EventSource(
            self.upstream.url(path),
            method="POST",
            session=self.session,
            max_connect_retry=0,
            json=BODY,
            headers=HEADERS,
        )
        with source:
            for event in source:
                if event.data == DONE:
                    return
                yield json.loads(event.data)
