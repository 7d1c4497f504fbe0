"""requests in a function that tenacity decorates."""

from __future__ import annotations

import requests
import tenacity

from benchmarks.contenders import plain

__all__ = ["Contender"]


class Contender(plain.Contender):
    """Follows its documentation."""

    @tenacity.retry(
        retry=tenacity.retry_if_exception_type(requests.ConnectionError),
        stop=tenacity.stop_after_attempt(3),
        wait=tenacity.wait_random_exponential(0.1, 2),
        reraise=True,
    )
    def post(self, path: str) -> None:
        super().post(path)
