"""A session whose key goes to the provider, and to nobody else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import requests

if TYPE_CHECKING:
    from resilient_requests.cli.chat._question import Key

__all__ = ["KeyedSession"]


class KeyedSession(requests.Session):
    """Sends a key with each request but those that a redirect leads to another host."""

    def __init__(self, key: Key | None) -> None:
        super().__init__()
        self._key = key
        if key is not None:
            # As a header of the session a netrc entry for that host would take its place.
            self.auth = self._sign

    def _sign(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        assert self._key is not None
        request.headers[self._key.header] = self._key.value
        return request

    def rebuild_auth(
        self, prepared_request: requests.PreparedRequest, response: requests.Response
    ) -> None:
        """Take the key off a request that goes elsewhere: requests itself knows of ``Authorization`` only."""
        super().rebuild_auth(prepared_request, response)
        asked, next_url = response.request.url or "", prepared_request.url or ""
        if self._key is not None and self.should_strip_auth(asked, next_url):
            prepared_request.headers.pop(self._key.header, None)
