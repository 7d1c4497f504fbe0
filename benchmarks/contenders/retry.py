"""requests with urllib3's Retry."""

from __future__ import annotations

import requests
import urllib3
from requests.adapters import HTTPAdapter

from benchmarks.contenders import plain

__all__ = ["Contender"]


class Contender(plain.Contender):
    """Follows its documentation."""

    def make_session(self) -> requests.Session:
        session = requests.Session()
        adapter = HTTPAdapter(
            max_retries=urllib3.Retry(2, allowed_methods=None, backoff_factor=0.1)
        )
        session.mount("http://", adapter)
        session.mount("https://", adapter)
        return session
